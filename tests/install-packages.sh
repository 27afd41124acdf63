#!/bin/bash
# Installs what the root tests need on a Debian machine. Quick when all is there; needs root only when something is missing.
set -euo pipefail

packages=(
  docker.io nftables iptables iproute2                   # what is tested, and with what
  busybox-static debootstrap                             # the containers' image, newer Engines
  iputils-ping tcpdump dnsutils bridge-utils iperf3 conntrack socat netcat-openbsd curl
  procps strace jq ethtool
  etcd-server                                            # what the hosts of a cluster share
)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "install-packages.sh: missing: ${missing[*]}; run as root, or: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "install-packages.sh: installing ${missing[*]}"

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
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}" < /dev/null
}
# The package lists may be missing or outdated: fetch them only when the installation fails without.
install > /dev/null 2>&1 || { apt-get update --quiet; install; }

if [ ${#brings[@]} -gt 0 ] && [ -d /run/systemd/system ]; then
  systemctl disable --now "${brings[@]}" > /dev/null 2>&1 || true
fi
