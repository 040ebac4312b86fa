#!/bin/sh
# What is looked for in a system that systemd has booted: before a reboot and after it. Each line is a test; the last ones
# are those of the guests of `cargo xtask test --vm`.
set -u
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
cd /opt/trial || exit 1
kept=trial.counts
passed=0 failed=0
[ ! -f "$kept" ] || . "./$kept"
say() { echo "$*" > /dev/ttyS0; }
# test_that WHAT COMMAND...: passes if the command succeeds.
test_that() {
    what=$1; shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1)); say "$(cut -d. -f1 /proc/uptime) s: $what ... ok"
    else
        failed=$((failed + 1)); say "$what ... FAILED"; echo "$output" | tail -n 20 > /dev/ttyS0
        # What follows rests on it, and each of its tests would wait its time.
        end
        sleep infinity
    fi
}
# within SECONDS COMMAND...: tries until it succeeds.
within() {
    end=$(($(cut -d. -f1 /proc/uptime) + $1)); shift
    until output=$("$@" 2>&1); do
        if [ "$(cut -d. -f1 /proc/uptime)" -gt "$end" ]; then echo "$output"; return 1; fi
        sleep 0.5
    done
}
end() {
    if [ "$failed" -gt 0 ]; then journalctl -b -o short-monotonic --no-hostname -n 80 -u 'persona-*' > /dev/ttyS0; fi
    say "test result: $([ "$failed" = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed"
    say "guest: tests ended with status $([ "$failed" = 0 ] && echo 0 || echo 1)"
    systemctl poweroff --force --force
}
# All of them: systemctl is content with one.
are_active() { for unit; do systemctl is-active "$unit" || return 1; done; }
# What is pinned, with its inode: a map that was made anew has another one.
pins() { find /sys/fs/bpf/persona -printf '%i %P\n' | sort -k 2; }
pins_are_kept() { pins > pins.now; diff pins.before pins.now; }
ctl() { persona-ctl "$@"; }
# is_told PATTERN COMMAND...: the manager's answer has it.
is_told() { pattern=$1; shift; told=$(ctl "$@"); echo "$told"; echo "$told" | grep -q "$pattern"; }
# Pings from the workload go on while something is done; none is lost.
under_pings() {
    ip netns exec web ping -q -i 0.2 -W 5 198.51.100.10 > pings 2>&1 & pinger=$!
    sleep 1
    "$@"; outcome=$?
    sleep 2
    kill -INT "$pinger"; wait "$pinger"
    cat pings
    [ "$outcome" = 0 ] && grep -q ' 0% packet loss' pings
}
restarted() {
    before=$(systemctl show --value --property NRestarts "$1")
    systemctl kill --kill-whom=main --signal="$2" "$1"
    within 60 sh -c "[ \$(systemctl show --value --property NRestarts $1) -gt $before ]" && within 60 are_active "$1"
}

main_process() { systemctl show --value --property MainPID "$1"; }
# Its user, and that it has the five Linux capabilities of its unit and can get no other.
agent_is_nobody_special() {
    agent=/proc/$(main_process persona-agent)
    [ "$(stat -c %U "$agent")" = persona-agent ] && grep -q '^CapEff:.*0000c000803000$' "$agent/status" &&
        grep -q '^CapBnd:.*0000c000803000$' "$agent/status"
}
slice=/sys/fs/cgroup/system.slice
# reads SERVICE FILE TEXT: a limit of it.
reads() { [ "$(cat "$slice/$1.service/$2")" = "$3" ]; }
is_small() { reads "$1" cpu.max "50000 100000" && reads "$1" memory.max 67108864 && reads "$1" pids.max 20; }
is_as_its_unit_says() {
    reads "$1" cpu.max "max 100000" && reads "$1" memory.max 209715200 && reads "$1" pids.max 100
}
# What systemd itself holds the daemon to.
systemd_says() { [ "$(systemctl show --value --property "$1" daemon)" = "$2" ]; }
is_not_told() { ! is_told "$@"; }
# refuses USER: the helper says nothing to him, whatever he sends.
refuses() { ! setpriv --reuid "$1" --clear-groups curl -s -m 5 --unix-socket /run/persona/helper.sock http://x/; }

limits_and_the_inside_of_workloads() {
    test_that "the agent is a user of its own with five Linux capabilities" agent_is_nobody_special
    test_that "a service is held to its persona" within 60 is_small worker
    echo max > "$slice/worker.service/pids.max"
    test_that "what a hand changes is put right" within 30 is_small worker
    units_through_systemd
    test_that "others get nothing from the helper" refuses nobody
    test_that "the agent's user gets nothing for what is no request" refuses persona-agent
    test_that "an address of its own is given to a workload" ctl switch workload/n1/web own
    test_that "it is inside" within 60 sh -c 'ip -n web address | grep -q "203.0.113.9[6-9]/32\|203.0.113.1[01][0-9]/32"'
    test_that "and works" within 30 ip netns exec web ping -q -c 1 -W 2 198.51.100.10
    test_that "it is taken back" ctl switch workload/n1/web plain
    test_that "the services' persona is taken away" ctl binding delete workers
    test_that "a unit's limits are back" within 30 is_as_its_unit_says worker
    test_that "and another's, through systemd" within 30 is_as_its_unit_says daemon
    systemctl daemon-reload
    test_that "and stay so over a daemon-reload" is_as_its_unit_says daemon
}
units_through_systemd() {
    test_that "a unit is held to its persona" within 60 is_small daemon
    test_that "systemd knows it" systemd_says CPUQuotaPerSecUSec 500ms
    systemctl daemon-reload
    test_that "a daemon-reload undoes nothing" is_small daemon
    systemctl restart daemon
    test_that "nor does a restart" is_small daemon
    test_that "and nobody else was seen to change it" is_not_told "workload/n1/daemon.*changed" events
    systemctl set-property --runtime daemon TasksMax=50
    test_that "what a hand tells systemd is put right" within 30 is_small daemon
}
a_gateway() {
    test_that "a gateway's configuration is right" ctl config check gateway --config /etc/persona/gateway.toml
    test_that "a gateway starts beside the agent" systemctl start persona-gateway
    test_that "and is active" are_active persona-gateway persona-agent
    systemctl stop persona-gateway
}

is_waiting_for_its_host() { systemctl show --value --property StatusText persona-guest | grep -q "^not connected"; }
an_agent_inside() {
    cp /usr/share/doc/persona/examples/guest.toml /etc/persona/guest.toml
    test_that "the example for a guest is right" ctl config check guest --config /etc/persona/guest.toml
    test_that "the agent inside a guest starts beside the others" systemctl enable --now persona-guest
    test_that "and says that its host is not there" within 30 is_waiting_for_its_host
    test_that "SIGKILL of it is made good" restarted persona-guest KILL
    systemctl disable --now persona-guest
}

everything_runs() {
    test_that "units are active" within 120 are_active persona-guard persona-manager persona-edge persona-agent
    test_that "bpffs is mounted by its unit" sh -c 'systemctl is-active sys-fs-bpf-persona.mount &&
        [ "$(findmnt --noheadings --output FSTYPE /sys/fs/bpf/persona)" = bpf ]'
    test_that "the guard stood before the agent was started" sh -c '
        [ "$(systemctl show --value --property ActiveEnterTimestampMonotonic persona-guard)" -lt \
          "$(systemctl show --value --property ExecMainStartTimestampMonotonic persona-agent)" ]'
    test_that "the workload's packets come back" within 60 ip netns exec web ping -q -c 1 -W 2 198.51.100.10
}

first_boot() {
    test_that "the package is installed" dpkg --install persona.deb
    test_that "the manager starts" systemctl enable --now persona-manager
    for role in node edge; do persona-ctl token create --role "$role" > "/etc/persona/$role.join"; done
    chmod 600 /etc/persona/*.join
    systemctl start worker daemon
    test_that "configurations are right" sh -c 'for role in agent edge; do
        persona-ctl config check "$role" --config "/etc/persona/$role.toml" || exit 1; done
        persona-ctl config check manager --config /etc/persona/trial-manager.toml'
    test_that "doctor finds nothing that a role could not do without" ctl doctor --config /etc/persona/agent.toml
    test_that "doctor reaches the manager" sh -c 'persona-ctl doctor --config /etc/persona/agent.toml | grep -q "10.0.0.1:7600 accepts"'
    test_that "guard, agent and edge start" systemctl enable --now persona-guard persona-edge persona-agent
    test_that "documents are applied" ctl persona apply -f fleet.yaml
    everything_runs
    test_that "doctor is content beside running roles" ctl doctor --config /etc/persona/agent.toml
    limits_and_the_inside_of_workloads
    a_gateway
    an_agent_inside
    pins > pins.before
    test_that "there are pins" grep -q / pins.before
    test_that "a restart of the agent loses no packet" under_pings systemctl restart persona-agent
    test_that "a restart keeps what is pinned" pins_are_kept
    test_that "SIGKILL of the agent loses no packet" under_pings restarted persona-agent KILL
    test_that "SIGKILL keeps what is pinned" pins_are_kept
    test_that "a manager that stands still is restarted by its watchdog" restarted persona-manager STOP
    test_that "it was the watchdog" sh -c 'journalctl -u persona-manager | grep -q "Watchdog timeout"'
    test_that "the agent is heard again" within 60 is_told "n1 *up" node list
    test_that "the host's persona is applied" ctl persona apply -f host.yaml
    test_that "it is on trial, for it cuts the agent off" within 60 grep -q inForce /var/lib/persona/agent/trial.json
    echo "passed=$passed failed=$failed" > "$kept"
    sync
    say "guest: reboots"
    systemctl reboot --force --force
}

second_boot() {
    everything_runs
    test_that "the trial goes on after the reboot: the generation is put back" within 120 is_told apply.put-back events
    test_that "and told as rejected" within 60 is_told rejected node get n1
    end
}

if [ -f "$kept" ]; then second_boot; else first_boot; fi
