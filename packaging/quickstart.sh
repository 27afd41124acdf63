#!/usr/bin/env bash
# npm run quickstart: shows the suite at work on this machine, in under a minute, and leaves nothing behind.
#
# With a Docker Engine that answers: builds the managed plugin, installs it as cnm-quickstart, and lets two containers
# talk. Without one: two standalone sandboxes, inside network and mount namespaces of their own that end with this script.
# Exit status: 0 when ping and page came through; else not.
set -euo pipefail
# Node and tsc would leave a cache in the temporary folder.
export NODE_DISABLE_COMPILE_CACHE=1
cd "$(dirname "$(readlink -f "$0")")/.."

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' plain=''
fi
count=0
step() {
  count=$((count + 1))
  printf '\n%s%d. %s%s\n' "$bold" "$count" "$*" "$plain"
}
note() { printf '   %s%s%s\n' "$dim" "$*" "$plain"; }
die() {
  printf '\n%s%s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}
indent() { sed 's/^/   /'; }
# Prints a command as a person would type it, runs it, and shows what it says.
show() {
  printf '   %s$ %s%s\n' "$green" "$*" "$plain"
  "$@" 2>&1 | indent
}
# The same where only the success counts.
quietly() {
  printf '   %s$ %s%s\n' "$green" "$*" "$plain"
  local output
  output=$("$@" 2>&1) || {
    printf '%s\n' "$output" | indent >&2
    return 1
  }
}

# The same for what Docker is asked to do. It does it also when nobody waits for the answer any more, and would after all has been undone: so
# Ctrl-C, which does not reach another session, is heard when it is done.
wholly() {
  printf '   %s$ %s%s\n' "$green" "$*" "$plain"
  setsid "$@" > "$work/said" 2>&1 || {
    indent < "$work/said" >&2
    return 1
  }
}

page='Hello from a container network of yours'

# ------------------------------------------------------------------------------------------------ what is needed

need_packages() {
  local missing=() pair
  for pair in nft:nftables iptables-nft:iptables ip:iproute2 nsenter:util-linux ping:iputils-ping "$@"; do
    command -v "${pair%%:*}" > /dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  note "not installed yet: ${missing[*]}"
  command -v apt-get > /dev/null || die "Please install ${missing[*]} by hand: apt-get is not here."
  show apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
    { show apt-get update -qq && show apt-get install -y -qq --no-install-recommends "${missing[@]}"; }
}

prepare() {
  [ "$(id -u)" = 0 ] || die 'Container networks are made of kernel objects that only root may make: sudo npm run quickstart'
  [ "$(uname -s)" = Linux ] || die 'Container networks need a Linux kernel.'
  export PATH="$PATH:/usr/sbin:/sbin"
  step 'What this machine needs'
  need_packages "$@"
  if [ ! -x node_modules/.bin/node ]; then
    command -v npm > /dev/null || die 'npm is not installed: apt-get install npm, or get Node from nodejs.org'
    show npm ci --no-audit --no-fund --loglevel=error
  fi
  export PATH="$PWD/node_modules/.bin:$PATH"
  note "all there: node $(node --version), $(nft --version | cut -d' ' -f1,2), Linux $(uname -r)"
}

# ----------------------------------------------------------------------------------------------------- with Docker

plugin=cnm-quickstart
work=''
had_table=no

undo_docker() {
  local status=$?
  trap '' INT TERM
  step 'Undoing it'
  # Each may be missing, when the script was stopped half way.
  docker rm -f cnm-quickstart-web cnm-quickstart-client > /dev/null 2>&1 || true
  docker network rm cnm-quickstart > /dev/null 2>&1 || true
  docker plugin disable -f $plugin > /dev/null 2>&1 || true
  docker plugin rm -f $plugin > /dev/null 2>&1 || true
  docker rmi -f cnm-quickstart-image > /dev/null 2>&1 || true
  # The daemon leaves its table to the next one; here there is none.
  [ $had_table = yes ] || for family in inet ip ip6; do nft delete table $family cnm 2> /dev/null || true; done
  [ -z "$work" ] || rm -rf "$work"
  note 'containers, network, plugin and image are gone'
  if [ "$status" = 0 ]; then farewell_docker; else printf '\n%sIt did not work (status %s).%s\n' "$red" "$status" "$plain"; fi
  exit "$status"
}

farewell_docker() {
  cat << TXT

${bold}What you saw${plain}
   A managed plugin with the driver cnm-bridge, two containers on a network of it, a ping and a web page between them.
   To keep it:   npm run build:plugin -- build/plugin
                 docker plugin create cnm-bridge build/plugin && docker plugin enable cnm-bridge
                 docker network create -d cnm-bridge:latest localnet
   To undo that: docker network rm localnet; docker plugin disable cnm-bridge; docker plugin rm cnm-bridge
   More:         README.md
TXT
}

# A root file system of one program: no registry is asked.
make_image() {
  local root=$work/image applet
  mkdir -p "$root/bin" "$root/www"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for applet in sh sleep ping wget httpd; do ln -s busybox "$root/bin/$applet"; done
  echo "$page" > "$root/www/index.html"
  tar -C "$root" -c . | docker import - cnm-quickstart-image > /dev/null
}

address_of() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }

with_docker() {
  prepare busybox:busybox-static
  if ss -xl 2> /dev/null | grep -q '@cnmd'; then
    die 'A cnmd is running on this machine already, and there can be one only. Try it: cnm network ls'
  fi
  docker network inspect cnm-quickstart > /dev/null 2>&1 && die 'There is a network cnm-quickstart already: docker network rm cnm-quickstart'
  nft list table inet cnm > /dev/null 2>&1 && had_table=yes
  work=$(mktemp -d)
  trap undo_docker EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  step 'Build the plugin and install it'
  show node packaging/build-plugin.ts "$work/plugin"
  wholly docker plugin create $plugin "$work/plugin"
  wholly docker plugin enable $plugin
  rm -rf "$work/plugin"

  step 'A network, and two containers on it'
  make_image
  wholly docker network create -d $plugin:latest cnm-quickstart
  wholly docker run -d --name cnm-quickstart-web --network cnm-quickstart cnm-quickstart-image /bin/httpd -f -h /www
  wholly docker run -d --name cnm-quickstart-client --network cnm-quickstart cnm-quickstart-image /bin/sleep 600
  local web
  web=$(address_of cnm-quickstart-web)

  step 'They reach each other'
  show docker exec cnm-quickstart-client /bin/ping -c 3 -i 0.3 -W 2 "$web"
  show docker exec cnm-quickstart-client /bin/wget -q -O - "http://$web/"

  step 'Which interface is whose'
  local socket
  socket=$(packaging/plugin-socket.sh $plugin)
  if [ -S "$socket" ]; then
    note "the plugin's admin socket: $socket"
    export CNM_SOCKET=$socket
    show cnm network inspect cnm-quickstart
  else
    note "this Docker Engine keeps its files elsewhere; cnm --socket PATH would reach the plugin's admin socket"
  fi
}

# -------------------------------------------------------------------------------------------------- without Docker

without_docker() {
  prepare curl:curl
  note 'no Docker Engine answers here, so the sandboxes are our own'
  # Everything inside ends with this one process: links, rules, daemon, mounts.
  unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private bash "$0" --inside &
  local inside=$!
  # A shell's background job does not hear Ctrl-C itself.
  trap 'kill -TERM $inside 2> /dev/null || true; note "stopped; all of it ended with its namespace"; exit 130' INT TERM
  wait $inside || die 'It did not work.'
}

cnm() { node inspect/cnm.ts "$@"; }

inside() {
  trap 'exit 143' TERM
  # Where people and packages expect them, but of this mount namespace alone.
  mount -t tmpfs tmpfs /run
  mkdir -p /run/state
  ip link set lo up
  count=1

  step 'The daemon, in a network namespace of its own'
  note '$ cnmd'
  node main.ts --state-dir /run/state --plugin-dir /run/plugins --log-level warn &
  local patience=100
  until cnm version > /dev/null 2>&1; do
    patience=$((patience - 1))
    [ $patience -gt 0 ] || die 'The daemon does not answer.'
    sleep 0.1
  done
  show cnm version

  step 'A network, and two sandboxes on it'
  quietly cnm network create --subnet 10.77.0.0/24 demo
  quietly cnm sandbox create web
  quietly cnm sandbox create client
  show cnm sandbox join web --network demo --ip 10.77.0.10
  show cnm sandbox join client --network demo --ip 10.77.0.11

  step 'They reach each other'
  show cnm sandbox exec client -- ping -c 3 -i 0.3 -W 2 10.77.0.10
  note '$ cnm sandbox exec web -- a small web server'
  cnm sandbox exec web -- node -e \
    "require('node:http').createServer((_, r) => r.end('$page\n')).listen(80, '10.77.0.10', () => console.log('up'))" > /run/web.log &
  until [ -s /run/web.log ]; do sleep 0.05; done
  show cnm sandbox exec client -- curl -sS --max-time 5 http://10.77.0.10/

  step 'Which interface is whose'
  show cnm network inspect demo

  step 'Undoing it'
  quietly cnm sandbox rm web client
  quietly cnm network rm demo
  quietly cnm doctor
  note 'and the namespace that all of it lived in ends now'
  cat << TXT

${bold}What you saw${plain}
   The whole suite with no Docker: a network of the driver cnm-bridge, two sandboxes, a ping and a web page between them.
   To keep it:   npm install -g .   and   cnmd   (packaging/systemd/cnmd.service runs it as a service)
                 cnm network create demo; cnm sandbox create web; cnm sandbox join web --network demo
   To undo that: cnm sandbox rm web; cnm network rm demo
   More:         README.md
TXT
}

case "${1:-}" in
  '') if docker version > /dev/null 2>&1; then with_docker; else without_docker; fi ;;
  --inside) inside ;;
  *) die 'Usage: npm run quickstart' ;;
esac
