/*
 *   h1: cnmd, its state on a small file system that is full, or that turns read-only ── sandboxes of cnm
 */
import t, { type Test } from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import type { Reply } from '../lab/unix-http.ts';
import { admin, holdings } from './crash-host.ts';
import { DockerDouble, operation } from './docker-talk.ts';

/** Everything that a person or Docker may ask for that has to be stored. Each is refused, or each is done. */
const REQUESTS: readonly (readonly [string, (h: CnmHost, docker: DockerDouble) => Promise<Reply>])[] = [
  ['Docker asks for a pool', (h) => h.plugin('cnm-ipam', 'IpamDriver.RequestPool', ANOTHER_POOL)],
  ['Docker asks for an address', (_, docker) => docker.send(operation('request address 4'))],
  ['Docker creates an endpoint', (_, docker) => docker.send(operation('CreateEndpoint'))],
  ['Docker creates a network', (h) => h.plugin('cnm-bridge', 'NetworkDriver.CreateNetwork', ANOTHER)],
  ['a network', (h) => admin(h, 'POST', '/v1/networks', { name: 'new' })],
  ['a sandbox', (h) => admin(h, 'POST', '/v1/sandboxes', { name: 'other' })],
  ['a join', (h) => admin(h, 'POST', '/v1/sandboxes/web/join', { network: 'second' })],
  ['a leave', (h) => admin(h, 'POST', '/v1/sandboxes/web/leave', { network: 'first' })],
  ['a network is removed', (h) => admin(h, 'DELETE', '/v1/networks/third')],
];
const ANOTHER_POOL = { AddressSpace: 'cnm-local', Pool: '10.66.0.0/24', SubPool: '', Options: {}, V6: false };
const ANOTHER = {
  NetworkID: 'b2'.repeat(32),
  Options: { 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.77.0.0/24', Gateway: '10.77.0.1/24' }],
  IPv6Data: [],
};

async function prepare(h: CnmHost): Promise<DockerDouble> {
  for (const name of ['first', 'second', 'third']) await h.cnm('network', 'create', name);
  await h.cnm('sandbox', 'create', 'web');
  await h.cnm('sandbox', 'join', 'web', '--network', 'first');
  const docker = new DockerDouble(h);
  const before = ['request pool 4', 'request gateway 4', 'request pool 6', 'request gateway 6'];
  for (const name of before) await docker.send(operation(name));
  await docker.send(operation('CreateNetwork'));
  await docker.send(operation('request address 4'));
  await docker.send(operation('request address 6'));
  return docker;
}

/** Every request is answered with an error that names the cause, and changes nothing. */
async function refusesAll(t: Test, h: CnmHost, docker: DockerDouble, cause: RegExp): Promise<void> {
  const before = await holdings(h);
  for (const [what, ask] of REQUESTS) {
    const reply = await ask(h, docker);
    t.ok(reply.status >= 400, `${what}: refused with ${reply.status}`);
    t.match(reply.text, cause, `${what}: the message names the cause`);
    t.same((await holdings(h)).kernel, before.kernel, `${what}: nothing half-made in the kernel`);
  }
  const after = await holdings(h);
  t.same(after.records, before.records, 'nothing recorded');
  t.same(after.wrong, [], 'nothing for the doctor');
}

async function doesAll(t: Test, h: CnmHost, docker: DockerDouble): Promise<void> {
  for (const [what, ask] of REQUESTS) {
    const reply = await ask(h, docker);
    t.ok(reply.status < 300, `${what}: done: ${reply.text}`);
  }
  t.same((await holdings(h)).wrong, []);
}

t.test('E02: the state folder is full (ENOSPC)', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost();
  const folder = h.cnmd.stateFolder;
  await h.killPlugin('SIGTERM');
  await h.sh(`mount -t tmpfs -o size=3m tmpfs ${folder}`);
  await h.startPlugin();
  const docker = await prepare(h);
  // Restarted, so that the log of the database is empty and has to grow for the next record.
  await h.killPlugin('SIGTERM');
  await h.startPlugin();
  await h.trySh(`dd if=/dev/zero of=${folder}/ballast bs=4k; sync ${folder}`);
  t.match(await h.sh(`df --output=avail ${folder} | tail -n 1`), /^\s*0$/m, 'it is full');

  await refusesAll(t, h, docker, /ENOSPC|no space/i);
  await h.killPlugin('SIGKILL');
  await h.startPlugin().then(
    () => t.pass('it even starts'),
    (error: unknown) => t.match(String(error), /ENOSPC|no space/i, 'a start says what is wrong'),
  );
  await h.sh(`rm ${folder}/ballast`);
  if (!(await h.tryCnm('version').then(({ code }) => code === 0))) await h.startPlugin();
  await doesAll(t, h, docker);
});

t.test('E02: the state folder turns read-only under the daemon (EROFS)', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost();
  const folder = h.cnmd.stateFolder;
  await h.killPlugin('SIGTERM');
  // As a failing disk does it: ext4 with errors=remount-ro, and its switch for tests (ext4 sysfs, trigger_fs_error).
  await h.sh(`
    truncate -s 16M ${h.dir}/disk && mkfs.ext4 -q ${h.dir}/disk
    mount -o loop,errors=remount-ro ${h.dir}/disk ${folder}`);
  t.teardown(() => h.trySh(`umount -l ${folder}`));
  await h.startPlugin();
  const docker = await prepare(h);
  const disk = (await h.sh(`findmnt -n -o SOURCE ${folder}`)).trim().replace('/dev/', '');
  await h.sh(`echo test > /sys/fs/ext4/${disk}/trigger_fs_error`);

  await refusesAll(t, h, docker, /EROFS|read-only/i);
  const running = await holdings(h);
  await h.killPlugin('SIGTERM');
  await t.rejects(h.startPlugin(), /EROFS|EUCLEAN|read-?only/i, 'a start says what is wrong');
  await h.sh(`
    umount ${folder}; fsck.ext4 -p ${h.dir}/disk || [ $? -le 1 ]
    mount -o loop,errors=remount-ro ${h.dir}/disk ${folder}`);
  await h.startPlugin();
  t.same((await holdings(h)).kernel, running.kernel, 'the networks are as they were');
  await doesAll(t, h, docker);
});
