"""`systemctl poweroff` inside an instance: tells the rig, as the hypervisor would notice."""

import sys
import urllib.request

endpoint, instance = sys.argv[1:]
urllib.request.urlopen(f"{endpoint}/rig/power-off?instance={instance}", data=b"").read()
