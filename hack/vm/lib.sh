# shellcheck shell=bash
# What the scripts in hack/vm share: the cache of images and kernels. To be sourced after hack/lib.sh.

cache=${VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/creel-vm}

# The Debian mirror, without the last folder of its address: what this machine's apt uses.
vm_mirror() {
    local mirror=${VM_MIRROR:-}
    # shellcheck disable=SC2016 # apt expands it
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' | sed -n 's#/debian/*$##p' | head -n 1)
    [ -n "$mirror" ] || fail "apt names no Debian mirror: set VM_MIRROR"
    echo "$mirror"
}

# vm_cached NAME INGREDIENTS REFRESH: prints the folder and exits if it is in the cache. Else makes
# $tmp with $tmp/out, to be filled and handed to vm_keep. One at a time: others wait.
vm_cached() {
    local key
    key=$(printf '%s' "$2" | sha256sum | cut -c1-16)
    out=$cache/$1-$key
    mkdir -p "$cache"
    exec 9>"$out.lock"
    flock 9
    if [ -z "$3" ] && [ -d "$out" ]; then
        echo "$out"
        exit 0
    fi
    tmp=$(mktemp -d "$cache/.build-XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    mkdir "$tmp/out"
}

# Puts the filled $tmp/out in its place and prints that.
vm_keep() {
    rm -rf "$out"
    mv "$tmp/out" "$out"
    echo "$out"
}
