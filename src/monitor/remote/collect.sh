# Writes raw counters of a container and its host, one CSV row per interval, until told to stop.
#
#   collect.sh PID FOLDER INTERVAL ROWS
#
# PID is the container's first process. Rows go to FOLDER/metrics.csv; it ends when FOLDER/stop exists or after ROWS.
# Counters are passed on as the kernel prints them: rates are made by who reads, so that nothing is lost in between, and
# because mawk prints computed numbers above 2^31 in exponent form unless told otherwise. Runs in any POSIX shell and awk.
pid=$1 folder=$2 interval=$3 rows=$4
LC_ALL=C
export LC_ALL
cg=${CGROUP_ROOT:-/sys/fs/cgroup}
proc=${PROC_ROOT:-/proc}

# The group of a controller from /proc/PID/cgroup; version 2 is the line without controllers.
group() {
  awk -F: -v want="$1" '{
    n = split($2, names, ",")
    if (want == "" && $1 == "0") { print $3; exit }
    for (i = 1; i <= n; i++) if (want != "" && names[i] == want) { print $3; exit }
  }' "$proc/$pid/cgroup" 2>/dev/null
}
# Version 1 mounts some controllers together, in whatever order.
mount_of() {
  for name in "$cg"/*; do
    case ",${name##*/}," in *",$1,"*) echo "$name"; return ;; esac
  done
}
one() {
  at=$(mount_of "$1")
  where=$(group "$1")
  [ -n "$at" ] && [ -n "$where" ] && [ -d "$at$where" ] && echo "$at$where"
}
two= cpu= acct= mem= blk= pids=
if [ -f "$cg/cgroup.controllers" ]; then
  two=$cg$(group "")
else
  cpu=$(one cpu) acct=$(one cpuacct) mem=$(one memory) blk=$(one blkio) pids=$(one pids)
  [ -d "$cg/unified" ] && two=$cg/unified$(group "")
fi

exec awk -v pid="$pid" -v folder="$folder" -v interval="$interval" -v rows="$rows" -v proc="$proc" \
  -v two="$two" -v cpu="$cpu" -v acct="$acct" -v mem="$mem" -v blk="$blk" -v pids="$pids" '
function first(file,   line) {
  line = ""
  if ((getline line < file) < 0) return ""
  close(file)
  return line
}
# The word after a key at the start of a line.
function keyed(file, key,   line, words, found) {
  found = ""
  while ((getline line < file) > 0) {
    split(line, words, " ")
    if (words[1] == key || words[1] == key ":") { found = words[2]; break }
  }
  close(file)
  return found
}
function pressure(file,   line, at) {
  line = first(file)
  at = index(line, "total=")
  return at ? substr(line, at + 6) : ""
}
function number(text) { return text ~ /^[0-9]+$/ ? text : "" }
function add(text) { row = row "," text }
# Bytes, packets and drops of all links but the loopback and those that carry the same bytes once more.
function traffic(file,   line, words, at, rb, rp, tb, tp, d, n) {
  rb = rp = tb = tp = d = n = 0
  while ((getline line < file) > 0) {
    at = index(line, ":")
    if (!at) continue
    name = substr(line, 1, at - 1)
    gsub(/ /, "", name)
    if (name ~ /^(lo|veth|docker|br-|cni|podman|virbr)/) continue
    split(substr(line, at + 1), words, " ")
    rb += words[1]; rp += words[2]; tb += words[9]; tp += words[10]; d += words[4] + words[12]
    n++
  }
  close(file)
  if (n) return sprintf("%.0f,%.0f,%.0f,%.0f,%.0f", rb, rp, tb, tp, d)
  return ",,,,"
}
function container(   words, line, r, w, base) {
  if (acct != "" || cpu != "" || mem != "") {
    add(""); add(number(first(acct "/cpuacct.usage")))
    add(keyed(cpu "/cpu.stat", "nr_periods")); add(keyed(cpu "/cpu.stat", "nr_throttled"))
    add(number(first(cpu "/cpu.cfs_quota_us"))); add(number(first(cpu "/cpu.cfs_period_us")))
    add(number(first(mem "/memory.usage_in_bytes"))); add(number(first(mem "/memory.limit_in_bytes")))
    add(keyed(mem "/memory.stat", "total_inactive_file")); add(keyed(mem "/memory.stat", "total_swap"))
    add(keyed(mem "/memory.oom_control", "oom_kill"))
    add(number(first(pids "/pids.current"))); add(number(first(pids "/pids.max")))
    r = w = 0; line = ""
    base = blk "/blkio.throttle.io_service_bytes_recursive"
    while ((getline line < base) > 0) {
      split(line, words, " ")
      if (words[2] == "Read") r += words[3]
      if (words[2] == "Write") w += words[3]
    }
    close(base)
    add(line == "" ? "" : sprintf("%.0f", r)); add(line == "" ? "" : sprintf("%.0f", w))
  } else {
    add(keyed(two "/cpu.stat", "usage_usec")); add("")
    add(keyed(two "/cpu.stat", "nr_periods")); add(keyed(two "/cpu.stat", "nr_throttled"))
    split(first(two "/cpu.max"), words, " ")
    add(number(words[1])); add(number(words[2]))
    add(number(first(two "/memory.current"))); add(number(first(two "/memory.max")))
    add(keyed(two "/memory.stat", "inactive_file")); add(number(first(two "/memory.swap.current")))
    add(keyed(two "/memory.events", "oom_kill"))
    add(number(first(two "/pids.current"))); add(number(first(two "/pids.max")))
    r = w = 0; base = two "/io.stat"; seen = 0
    while ((getline line < base) > 0) {
      seen = 1
      n = split(line, words, " ")
      for (i = 2; i <= n; i++) {
        if (words[i] ~ /^rbytes=/) r += substr(words[i], 8)
        if (words[i] ~ /^wbytes=/) w += substr(words[i], 8)
      }
    }
    close(base)
    add(seen ? sprintf("%.0f", r) : ""); add(seen ? sprintf("%.0f", w) : "")
  }
  add(two == "" ? "" : pressure(two "/cpu.pressure"))
  add(two == "" ? "" : pressure(two "/memory.pressure"))
  add(two == "" ? "" : pressure(two "/io.pressure"))
  add(traffic(proc "/" pid "/net/dev"))
}
function host(   line, words, used, all, stolen, cores, a, b, dr, dw, busy, queue, n) {
  used = all = stolen = ""; cores = 0
  while ((getline line < (proc "/stat")) > 0) {
    if (line !~ /^cpu/) break
    if (line !~ /^cpu[0-9]/) continue
    split(line, words, " ")
    a = words[2] + words[3] + words[4] + words[7] + words[8]
    b = a + words[5] + words[6] + words[9]
    used = used (cores ? ";" : "") sprintf("%.0f", a)
    all = all (cores ? ";" : "") sprintf("%.0f", b)
    stolen += words[9]
    cores++
  }
  close(proc "/stat")
  add(used); add(all); add(sprintf("%.0f", stolen))
  for (line in memory) delete memory[line]
  while ((getline line < (proc "/meminfo")) > 0) {
    split(line, words, " ")
    memory[words[1]] = words[2]
  }
  close(proc "/meminfo")
  add(memory["MemTotal:"]); add(memory["MemAvailable:"]); add(memory["SwapTotal:"]); add(memory["SwapFree:"])
  for (line in memory) delete memory[line]
  while ((getline line < (proc "/vmstat")) > 0) {
    split(line, words, " ")
    if (words[1] == "pswpin" || words[1] == "pswpout" || words[1] == "oom_kill") memory[words[1]] = words[2]
  }
  close(proc "/vmstat")
  add(memory["pswpin"]); add(memory["pswpout"]); add(memory["oom_kill"])
  dr = dw = n = 0; busy = queue = ""
  while ((getline line < (proc "/diskstats")) > 0) {
    split(line, words, " ")
    if (words[3] !~ /^(nvme[0-9]+n[0-9]+|[svh]d[a-z]+|xvd[a-z]+)$/) continue
    dr += words[6]; dw += words[10]
    busy = busy (n ? ";" : "") words[13]; queue = queue (n ? ";" : "") words[14]
    n++
  }
  close(proc "/diskstats")
  add(n ? sprintf("%.0f", dr) : ""); add(n ? sprintf("%.0f", dw) : ""); add(busy); add(queue)
  add(pressure(proc "/pressure/cpu")); add(pressure(proc "/pressure/memory")); add(pressure(proc "/pressure/io"))
  add(traffic(proc "/net/dev"))
  split(first(proc "/loadavg"), words, " "); split(words[4], words, "/")
  add(words[2])
}
BEGIN {
  out = folder "/metrics.csv"; stop = folder "/stop"
  "date +%s" | getline now; close("date +%s")
  split(first(proc "/uptime"), words, " ")
  print "#clock," now "," words[1] > out
  print "t,cpu_usec,cpu_nsec,periods,throttled,quota_us,period_us,memory,memory_max,inactive_file,swap,oom_kill" \
    ",pids,pids_max,read,written,psi_cpu,psi_memory,psi_io,rx_bytes,rx_packets,tx_bytes,tx_packets,drops" \
    ",h_core_used,h_core_all,h_stolen,h_memory_kb,h_available_kb,h_swap_kb,h_swap_free_kb,h_swap_in,h_swap_out,h_oom_kill" \
    ",h_read_sectors,h_written_sectors,h_disk_busy_ms,h_disk_queue_ms,h_psi_cpu,h_psi_memory,h_psi_io" \
    ",h_rx_bytes,h_rx_packets,h_tx_bytes,h_tx_packets,h_drops,h_threads" > out
  for (count = 0; count < rows; count++) {
    if ((getline line < stop) >= 0) break
    split(first(proc "/uptime"), words, " ")
    row = words[1]
    if ((getline line < (proc "/" pid "/stat")) > 0) container()
    else row = row ",,,,,,,,,,,,,,,,,,,,,,,"
    close(proc "/" pid "/stat")
    host()
    print row > out
    fflush(out)
    if (system("sleep " interval)) break
  }
  print "" > (folder "/done")
}'
