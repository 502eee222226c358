#!/bin/sh
# Run a command in a network namespace of its own, in which there is only the loopback.
# Ray opens ports on the address of the machine, whatever it is told; here nobody else reaches them.
namespace=--net
[ "$(id -u)" = 0 ] || namespace="--map-root-user --net"
# shellcheck disable=SC2086
exec unshare $namespace sh -c 'ip link set lo up && exec "$@"' sh "$@"
