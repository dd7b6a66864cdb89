#!/bin/sh
# A real Slurm on this machine's loopback, for tests/test_slurm.py: no systemd, no cgroups, no accounts. Needs root and
#   apt-get install slurm-wlm
#
#   tests/slurm/slurm.sh start FOLDER    daemons, their files in FOLDER; prints the line that makes a shell use them
#   tests/slurm/slurm.sh stop FOLDER
#   tests/slurm/slurm.sh test FOLDER     start, tests/test_slurm.py with what it saw in results/slurm/slurm.log, stop
#
# Two nodes of one processor each. Jobs of the partition `urgent` preempt those of `usual`, which are queued again.
set -eu
[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$(mkdir -p "$2" && cd "$2" && pwd)
conf=$folder/slurm.conf

stop() {
    for daemon in slurmd.node1 slurmd.node2 slurmctld munged; do
        [ -s "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
    done
}

case $1 in
stop) stop; exit 0 ;;
test)
    root=$(cd "$(dirname "$0")/../.." && pwd)
    eval "$("$0" start "$folder")"
    trap stop EXIT
    cd "$root"
    SLURM_LOG=results/slurm/slurm.log "${PYTHON:-.venv/bin/python}" -m pytest -m slurm -v tests/test_slurm.py
    exit ;;
start) ;;
*) echo "$0: start, stop or test, not $1" >&2; exit 2 ;;
esac

[ "$(id -u)" = 0 ] || { echo "$0: needs root: slurmd starts jobs for their owners" >&2; exit 2; }
for command in munged slurmctld slurmd; do
    command -v $command >/dev/null || { echo "$0: no $command; apt-get install slurm-wlm" >&2; exit 2; }
done
mkdir -p "$folder/state" "$folder/node1" "$folder/node2"
chmod 755 "$folder"
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 2>/dev/null
chmod 400 "$folder/munge.key"
munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"

cat > "$conf" <<END
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=60
MinJobAge=3600
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
NodeName=node[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[16821-16822] CPUs=1 State=UNKNOWN
PartitionName=usual Nodes=node[1-2] Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=urgent Nodes=node[1-2] MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF State=UP
END

export SLURM_CONF="$conf"
slurmctld -f "$conf"
slurmd -f "$conf" -N node1
slurmd -f "$conf" -N node2
for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%D --states=idle --partition=usual 2>/dev/null)" = 2 ] && {
        echo "export SLURM_CONF=$conf"
        exit 0
    }
    sleep 0.5
done
echo "$0: no idle nodes after 30 s; see the logs in $folder" >&2
stop
exit 1
