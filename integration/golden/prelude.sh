# What every step of every sequence begins with. $R is the runtime with its state root, $RUN the
# runtime alone; the directory is fresh, and at the same place for both runtimes.

# bundle NAME ARGS [MORE]: a bundle whose process has these args (inner JSON), and more members.
bundle() {
    mkdir -p "$1"
    [ -e "$1/rootfs" ] || cp -a "$IMAGE" "$1/rootfs"
    sed -e "s|@ARGS@|$2|" -e "s|@MORE@|${3:-}|" -e "s|@CGROUP@|/$MARK-$1|" "$TEMPLATE" >"$1/config.json"
}
idle='"/bin/sleep","1000"'

# until COMMAND...: waits for it to succeed.
until_() {
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 500 ] || { echo "never: $*" >&2; return 1; }
        sleep 0.02
    done
}
is() { $R state "$1" | grep -q "\"status\": \"$2\""; }
