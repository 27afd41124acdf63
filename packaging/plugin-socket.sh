#!/bin/sh
# plugin-socket.sh NAME: prints the path of the admin socket of the managed plugin NAME, for CNM_SOCKET or cnm --socket.
# The plugin has it in its data folder, which Docker keeps on the host below its own root.
set -eu
root=$(docker info -f '{{.DockerRootDir}}')
id=$(docker plugin inspect -f '{{.Id}}' "${1:?Usage: plugin-socket.sh NAME}")
echo "$root/plugins/$id/propagated-mount/cnm.sock"
