# shellcheck shell=bash
# What the scripts here share. It is sourced after `set -euo pipefail`, from any directory.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# An ordinary user's PATH on Debian lacks the places of `dockerd` and `iptables`.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Cargo tools that `setup` builds live beside other caches, so that a fresh clone need not build
# them again; nobody's own ~/.cargo/bin is touched.
tools_dir() {
    printf '%s\n' "$(cache_dir)/tools"
}

# A place that outlives the clone, if there is one to write to.
cache_dir() {
    local base=${XDG_CACHE_HOME:-${HOME:-}/.cache}
    if mkdir -p "$base/weir" 2>/dev/null && [[ -w $base/weir ]]; then
        printf '%s\n' "$base/weir"
    else
        printf '%s\n' "$ROOT/target/cache"
    fi
}

say() {
    printf '%s\n' "$*"
}

# One line for each argument.
warn() {
    printf '%s\n' "$@" >&2
}

die() {
    warn "$@"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Whether `as_root` can do anything; to be asked where its complaint would not be seen.
check_root() {
    [[ $EUID -eq 0 ]] || have sudo ||
        die "This needs root, and there is no sudo here: run it once as root, then again as yourself."
}

# Runs a command as root: directly, or through sudo.
as_root() {
    check_root
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo -- "$@"; fi
}

# A busybox that runs in an image where nothing else is.
static_busybox() {
    local candidate path
    for candidate in busybox busybox-static busybox.static; do
        path=$(command -v "$candidate") || continue
        if ldd "$path" >/dev/null 2>&1; then continue; fi
        if [[ $'\n'$("$path" --list)$'\n' == *$'\nhttpd\n'* ]]; then
            printf '%s\n' "$path"
            return
        fi
    done
    return 1
}

# The socket of the engine on this machine, the same for `docker` and for `weir`.
engine_socket() {
    local host=${DOCKER_HOST:-unix:///var/run/docker.sock}
    case $host in
        unix://*) printf '%s\n' "${host#unix://}" ;;
        *) die "DOCKER_HOST is $host, but containers must run on this machine: unset it, or give a unix:// socket." ;;
    esac
}

# Where cargo puts what it builds, whatever decides it: a flag, the environment or a config file.
cargo_target_dir() {
    (cd "$ROOT" && cargo metadata --no-deps --format-version 1) | jq -r .target_directory
}

# The seconds from one $EPOCHREALTIME to another, with one decimal.
seconds_between() {
    awk -v from="${1/,/.}" -v to="${2/,/.}" 'BEGIN { printf "%.1f", to - from }'
}
