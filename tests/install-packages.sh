#!/bin/bash
# Installs what the root tests need on a Debian machine. Quick when all is there; needs root only when something is missing.
# Fails when something of that cannot be had, but for the virtual machine: the tests that need it are then NOT RUN (tests/run-lab.sh).
set -euo pipefail

packages=(
  docker.io nftables iptables iproute2                   # what is tested, and with what
  busybox-static debootstrap                             # the containers' image, newer Engines
  dnsmasq-base                                           # the DHCP server of a LAN
  iputils-ping tcpdump dnsutils bridge-utils iperf3 conntrack socat netcat-openbsd curl
  procps strace jq ethtool
  tshark                                                 # reads captures
  musl-tools gcc                                         # the C library of Alpine's images asks in another way than glibc
  etcd-server                                            # what the hosts of a cluster share
)
# A kernel that has everything, which is not installed but downloaded when it is wanted (tests/lab/make-vm.sh).
virtual_machine=(qemu-system-x86 kmod xz-utils e2fsprogs)

missing_of() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || echo "$package"
  done
}

mapfile -t missing < <(missing_of "${packages[@]}")
mapfile -t missing_machine < <(missing_of "${virtual_machine[@]}")
all=("${missing[@]}" "${missing_machine[@]}")
[ ${#all[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "install-packages.sh: missing: ${all[*]}; run as root, or: apt-get install ${all[*]}" >&2
  exit 1
fi
echo "install-packages.sh: installing ${all[*]}"

# A Docker Engine or an etcd that we bring must not start in the machine's own namespaces: the tests run their own.
# policy-rc.d (invoke-rc.d(8)) keeps services from starting during the installation; one that is there already is left alone.
brings=()
[[ " ${missing[*]} " != *' docker.io '* ]] || brings+=(docker.service docker.socket containerd.service)
[[ " ${missing[*]} " != *' etcd-server '* ]] || brings+=(etcd.service)
if [ ${#brings[@]} -gt 0 ]; then
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
  fi
fi

install() {
  [ $# -gt 0 ] || return 0
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@" < /dev/null
}
# The package lists may be missing or outdated: fetch them only when the installation fails without.
install_with_lists() {
  install "$@" > /dev/null 2>&1 || { apt-get update --quiet; install "$@"; }
}
install_with_lists "${missing[@]}"
install_with_lists "${missing_machine[@]}" ||
  echo "install-packages.sh: NOT INSTALLED: ${missing_machine[*]}; the tests that need a virtual machine cannot run" >&2

if [ ${#brings[@]} -gt 0 ] && [ -d /run/systemd/system ]; then
  systemctl disable --now "${brings[@]}" > /dev/null 2>&1 || true
fi
