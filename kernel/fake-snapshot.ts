/** All that a fake kernel holds, for before = after. */
import type { FakeNetns } from './fake-host.ts';
import type { FakeState } from './fake-state.ts';

/** As plain data in a fixed order, without link indexes. */
export function snapshotOf(state: FakeState): unknown {
  const { host, netns, elements, accepts, acceptChain, ports, vteps, ipsec } = state;
  return {
    host: netnsSnapshot(host),
    netns: sorted([...netns].map(([path, one]) => [path, netnsSnapshot(one)])),
    elements:
      elements &&
      sorted([...elements].filter(([, set]) => set.size > 0).map(([set, held]) => [set, sorted([...held])])),
    accepts: sorted(accepts.map(({ family, bridge, network }) => [family, bridge, network])),
    acceptChain: { ...acceptChain },
    heldPorts: sorted([...ports.ours()]),
    vteps: sorted([...vteps]),
    ipsec: [ipsec.states, ipsec.policies, ipsec.guards].map((held) => sorted([...held.keys()])),
  };
}

function netnsSnapshot(netns: FakeNetns): unknown {
  return {
    links: sorted(
      [...netns.links.values()].map(
        ({
          name,
          kind,
          mtu,
          mac,
          up,
          linkLocal,
          mark,
          master,
          port,
          peer,
          bucket,
          redirectedTo,
          vxlan,
          entries,
          parent,
          macvlanMode,
          vlan,
          promisc,
          ...link
        }) => ({
          name,
          ...(promisc === true && { promisc }),
          ...(parent !== undefined && { parent: parent.name, macvlanMode, vlan }),
          ...{ kind, mtu, mac, up, linkLocal, mark, master: master?.name, peer: peer?.name },
          ...(master !== undefined && { port }),
          ...(bucket !== undefined && { bucket }),
          ...(redirectedTo !== undefined && { redirectedTo: redirectedTo.name }),
          ...(vxlan !== undefined && { vxlan }),
          ...(entries.size > 0 && { entries: sorted([...entries.values()]) }),
          addresses: sorted([...link.addresses]),
          sysctls: sorted([...link.sysctls]),
        }),
      ),
    ),
    routes: sorted(netns.routes.map((route) => ({ ...route, link: route.link?.name }))),
    sysctls: sorted([...netns.sysctls]),
    translation: netns.translation,
  };
}

/** In the order of their JSON. */
function sorted<T>(values: readonly T[]): readonly T[] {
  return values
    .map((value) => ({ value, text: JSON.stringify(value) }))
    .sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0))
    .map(({ value }) => value);
}
