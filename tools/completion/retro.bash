# Completion of retro(1) for bash.
_retro() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[1]}
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "record replay gdb index run info events console diff stat export view verify salvage lift lockstep doctor ps syscalls state backtrace mem query find profile coverage calls analyze --help --version" -- "$cur"))
        return
    fi
    case $prev in
    -e | --engine) COMPREPLY=($(compgen -W "auto translate interpret kvm kvm-nested kvm-direct" -- "$cur")); return ;;
    --cpu) COMPREPLY=($(compgen -W "auto v2 v3 hw" -- "$cur")); return ;;
    --view) COMPREPLY=($(compgen -W "64 32 16" -- "$cur")); return ;;
    -F | --format) COMPREPLY=($(compgen -W "perfetto sqlite csv speedscope pprof" -- "$cur")); return ;;
    --pace) COMPREPLY=($(compgen -W "auto wall free" -- "$cur")); return ;;
    -k | --kind)
        if [ "$cmd" = events ]; then
            COMPREPLY=($(compgen -W "input jump query effect digest mark trap landmark stop" -- "$cur"))
            return
        elif [ "$prev" = --kind ]; then
            COMPREPLY=($(compgen -W "auto bzimage pvh multiboot flat" -- "$cur"))
            return
        fi
        ;;
    esac
    local ask="--symbols --json --jobs --no-index --engine --quiet --verbose --kernel --initrd --help"
    local guest="--kernel --initrd --append --memory --kind --engine --cpu --input --debugcon --pace --like --timeout
        --max-instructions --quiet --json --verbose --help"
    local options
    case $cmd in
    ps) options="--threads --all $ask" ;;
    syscalls) options="--process --only --summary $ask" ;;
    state) options="--at --process --maps $ask" ;;
    backtrace) options="--at --process $ask" ;;
    mem) options="--at --process --physical --raw $ask" ;;
    query) options="--at --from --to --process --physical --limit $ask"
        if [ "$COMP_CWORD" = 2 ]; then
            COMPREPLY=($(compgen -W "last-write next-write reads writes executions calls $options" -- "$cur"))
            return
        fi ;;
    find) options="--exact --limit --text $ask" ;;
    record) options="--output --force --no-embed $guest" ;;
    run) options=$guest ;;
    replay) options="--to --engine --quiet --kernel --initrd --json --verbose --help" ;;
    gdb) options="--symbols --at --listen --view --gdb --checkpoint-memory --no-index --engine --quiet --kernel
        --initrd --verbose --help" ;;
    index) options="--force --engine --json --quiet --kernel --initrd --verbose --help" ;;
    info | doctor) options="--json --help" ;;
    events) options="--kind --from --to --json --help" ;;
    console) options="--at --timing --asciinema --json --debugcon --raw --engine --kernel --initrd --quiet --help" ;;
    diff) options="--json --no-replay --engine --kernel --initrd --quiet --help" ;;
    profile) options="--top --processes --process --from --to --folded --svg $ask" ;;
    coverage) options="--output --from --to $ask" ;;
    calls) options="--process --from --to --least --depth --folded --svg $ask" ;;
    analyze) options="--plugin --from --to $ask" ;;
    stat) options=$ask ;;
    export) options="--format --output --force $ask" ;;
    view) options="--output --force --from --to --open $ask" ;;
    lockstep) options="--engines --every --from --to --eager --kernel --initrd --json --quiet --help" ;;
    verify) options="--json --quiet --help" ;;
    salvage) options="--output --force --json --help" ;;
    lift) options="--output --force --engine --json --help" ;;
    esac
    case $cur in
    -*) COMPREPLY=($(compgen -W "$options" -- "$cur")) ;;
    *) compopt -o default 2>/dev/null; COMPREPLY=() ;;
    esac
}
complete -F _retro retro
