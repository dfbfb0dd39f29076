# shellcheck shell=bash
# What the scripts in hack/ share. To be sourced after `here` is set to the top of the source tree.

: "${here:?}"
# Where Debian keeps runc and debootstrap; not everybody's PATH has it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Prints the calling script's header and gives up.
usage() {
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# A heading in plain words.
step() { printf '\n== %s\n' "$*"; }

# Runs a command after printing it.
say() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

need_root() { [ "$(id -u)" = 0 ] || fail "must be run as root: $1"; }

# need PROGRAM-OR-FILE PACKAGE: installs the Debian package unless the program is there.
need() {
    case $1 in
        /*) [ -e "$1" ] && return ;;
        *) command -v "$1" >/dev/null && return ;;
    esac
    [ "$(id -u)" = 0 ] || fail "$1 is missing: install the package $2"
    command -v apt-get >/dev/null || fail "$1 is missing and there is no apt-get: install $2 yourself"
    {
        step "Installing $2 (for $1)"
        export DEBIAN_FRONTEND=noninteractive
        # The lists of a fresh machine may be absent or old: fetch them only when they fail us.
        say apt-get install -qq -y --no-install-recommends "$2" </dev/null ||
            { say apt-get update -qq && say apt-get install -qq -y --no-install-recommends "$2" </dev/null; }
    } >&2
}

# Rust comes with rustup, which reads rust-toolchain.toml; look where it installs itself, too.
need_rust() {
    command -v cargo >/dev/null || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup first"
    need gcc gcc
    need /usr/include/stdio.h libc6-dev
}

# The folder below target/ that this workspace's builds land in.
rust_target() { (cd "$here" && rustc -vV | sed -n 's/^host: //p'); }

# newer A B: A exists and is newer than B.
newer() { [ "$1" -nt "$2" ]; }

cgroup_mode() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        echo "cgroup v2"
    elif [ -e /sys/fs/cgroup/unified/cgroup.controllers ]; then
        echo "cgroup v1, hybrid"
    else
        echo "cgroup v1"
    fi
}

# A root file system of one static busybox and a link for each of its commands.
busybox_root() {
    mkdir -p "$1"/{bin,dev,etc,proc,root,sys,tmp}
    cp /bin/busybox "$1/bin/busybox"
    local name
    for name in $(/bin/busybox --list); do
        [ "$name" = busybox ] || ln -sf busybox "$1/bin/$name"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
    echo 'root:x:0:' >"$1/etc/group"
}
