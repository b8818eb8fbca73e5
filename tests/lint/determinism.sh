#!/bin/sh
# The machine must not reach anything nondeterministic but through vmm/nondet.h: no clock, randomness,
# sleep, thread, file or process environment in vmm/ outside vmm/host (the host behind the choke point)
# and vmm/cpu/kvm (whose clocks measure the host, out of the guest's sight). Nor may vmm/ name a layer
# above it. Checked on the compiled objects, which no macro can hide from, and on the sources.
#   tests/lint/determinism.sh BUILD-DIRECTORY
set -u
build=$1
cd "$(dirname "$0")/../.."
bad=0
forbidden='clock_gettime|clock_getres|gettimeofday|time|times|clock|ftime|localtime.*|gmtime.*|nanosleep|clock_nanosleep|usleep|sleep|alarm|setitimer|timer_.*|rand|rand_r|srand|random|srandom|drand48|lrand48|getrandom|getentropy|arc4random.*|pthread_.*|thrd_.*|fork|vfork|clone|open|open64|openat|openat64|fopen|fopen64|creat|read|pread.*|write|pwrite.*|poll|ppoll|select|epoll_.*|socket|getenv|secure_getenv|getpid|gettid|uname|sysconf|sched_.*|isatty'
for object in $(find "$build/vmm" -name '*.c.o' | sort); do
    case $object in */host/* | */cpu/kvm/*) continue ;; esac
    found=$(nm --undefined-only "$object" | awk '{print $2}' | sed 's/@.*//; s/^__//; s/_chk$//' |
        grep -xE "$forbidden")
    if [ -n "$found" ]; then
        echo "$object reaches outside the machine:" $found
        bad=1
    fi
done
[ -n "$(find "$build/vmm" -name 'machine.c.o')" ] || { echo "no objects of vmm/ in $build"; bad=1; }

# Instructions that read a clock, a counter or a random generator of the host; the interpreter's own
# strings and comments may name them. KVM's probe may time things.
if grep -rnE '__rdtsc|__builtin_ia32_(rdtsc|rdrand|rdseed|rdpmc)|_rd(rand|seed)[0-9]' vmm --include='*.[ch]' |
    grep -v '^vmm/cpu/kvm/'; then
    echo "the lines above read the host's clock or randomness"
    bad=1
fi
if grep -rnE '#include *"(record|replay|tools|trace-format)/' vmm; then
    echo "the lines above reach a layer above vmm/"
    bad=1
fi
if grep -rnE '#include *"replay/' record || grep -rnE '#include *"record/' replay; then
    echo "record and replay must not know each other"
    bad=1
fi
if grep -rniE '\bis_?(recording|replaying)\b' vmm; then
    echo "vmm/ must not ask whether it is recorded or replayed"
    bad=1
fi
[ $bad = 0 ] && echo "vmm/ reaches the outside only through vmm/nondet.h"
exit $bad
