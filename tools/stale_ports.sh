#!/usr/bin/env bash
# Removes the NAT rules that Podman has left for published ports of containers that do not run any more. Such a rule sends
# connections to that port of the loopback interface nowhere, whoever listens there.
set -euo pipefail

chain=NETAVARK-HOSTPORT-DNAT
[ "$(id -u)" -eq 0 ] && command -v iptables >/dev/null || exit 0
{ iptables -t nat -S "$chain" 2>/dev/null || true; } | while read -r rule; do
  [[ $rule =~ id:\ ([0-9a-f]{64}) ]] || continue
  # Every container that runs has a conmon, which is told its id.
  grep -qsa "conmon.*${BASH_REMATCH[1]}" /proc/[0-9]*/cmdline && continue
  eval "iptables -t nat ${rule/#-A/-D}"
done
