# `systemctl` of an instance of the rig: units are the files of AUTOSIZER_UNITS, a timer that runs is a process that
# sleeps until its time, and enabled timers are started at every boot (`rig-boot`).
start_timer() {
  when=$(sed -n 's/^OnCalendar=//p' "$AUTOSIZER_UNITS/$1.timer")
  what=$(sed -n 's/^ExecStart=//p' "$AUTOSIZER_UNITS/$1.service")
  wait=$(($(date -d "$when" +%s) - $(date +%s)))
  [ "$wait" -gt 0 ] || wait=0
  # The command by its name alone: the rig's own programs stand in for the machine's.
  setsid sh -c 'echo $$ >"$HOME/$0.unit"; sleep "$1"; exec ${2##*/}' "$1.timer" "$wait" "$what" \
    </dev/null >/dev/null 2>&1 &
}
stop_unit() {
  pid=$(cat "$HOME/$1.unit" 2>/dev/null) && kill -TERM "-$pid" 2>/dev/null
  rm -f "$HOME/$1.unit"
}

command=$1
[ $# -gt 0 ] && shift
case "$command" in
  poweroff) exec $RIG_POWER ;;
  stop)
    for unit; do stop_unit "$unit"; done
    ;;
  enable)
    for unit; do
      case "$unit" in *.timer) touch "$AUTOSIZER_UNITS/$unit.enabled" ;; esac
    done
    ;;
  restart)
    for unit; do
      case "$unit" in *.timer) stop_unit "$unit"; start_timer "${unit%.timer}" ;; esac
    done
    ;;
  rig-boot)
    for file in "$AUTOSIZER_UNITS"/*.timer.enabled; do
      [ -e "$file" ] || continue
      unit=${file##*/}
      start_timer "${unit%.timer.enabled}"
    done
    ;;
esac
exit 0
