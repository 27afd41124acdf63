#!/bin/bash
# Unpacks a Debian suite with its Docker Engine, once: make-tree.sh SUITE TREE
# From the mirror that this machine's apt uses, with apt's proxy; the release's signature is checked with the machine's own keyring.
set -eu
suite=$1 tree=$2
mkdir -p "$(dirname "$tree")"
# Two tests may want the same tree at once: the second waits for the first.
exec 9> "$tree.lock"
flock 9
[ ! -e "$tree/usr/sbin/dockerd" ] || exit 0

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
[ -n "$mirror" ] || { echo "make-tree.sh: apt has no Debian mirror configured (apt-get indextargets is empty; run apt-get update)" >&2; exit 1; }
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}"

# debootstrap of an older suite does not know newer names, but all since sid's script are made alike.
script=/usr/share/debootstrap/scripts/sid
packages=docker.io,docker-cli,nftables,iptables,iproute2,iputils-ping,procps,bridge-utils
rm -rf "$tree.part"
# Its mounts of /proc and /sys go with its mount namespace, also when it is killed.
if ! unshare --mount --propagation private debootstrap --variant=minbase "--include=$packages" \
    "$suite" "$tree.part" "$mirror" "$script" > "$tree.log" 2>&1; then
  tail -n 20 "$tree.log" >&2
  exit 1
fi
rm -rf "$tree.part"/var/cache/apt/archives/*.deb "$tree.part"/var/lib/apt/lists/*
mv "$tree.part" "$tree"
