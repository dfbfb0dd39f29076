// The floor: what the kernel alone charges for the container that `runc spec` describes.
//
//   floor run    STATE ROOTFS ID [PROGRAM ARG...]     run it, wait, clean up
//   floor create STATE ROOTFS ID [PROGRAM ARG...]     stop just before execve
//   floor start  STATE ROOTFS ID
//   floor delete STATE ROOTFS ID
//   floor exec   STATE ROOTFS ID  PROGRAM ARG...      another process in it, wait
//
// Not a runtime. There is no config, no check, no error worth reading and no safety: every value
// is written into the source, and the first call that fails ends the program. What it does make is
// the whole default container: cgroups, namespaces, seven mounts, devices, links, masked and
// read-only paths, pivot_root, capabilities, execve. So the difference between a runtime and this
// is what that runtime adds, and nobody can be quicker by much. Needs Linux 6.15 (a detached tree
// takes mounts), root, and cgroup v1, hybrid or v2 at /sys/fs/cgroup.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define RO_DEV_EXEC_SUID (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID)
#define DEV_EXEC_SUID (MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID)
#define CLONE_FD (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
#define HERE (MOVE_MOUNT_F_EMPTY_PATH)
#define LENGTH(a) (sizeof(a) / sizeof *(a))

static long must_(long got, const char *what, int line) {
    if (got < 0) {
        fprintf(stderr, "floor: line %d: %s: %s\n", line, what, strerror(errno));
        _exit(1);
    }
    return got;
}
#define must(call) must_((long)(call), #call, __LINE__)

static const char *id;

// ---- cgroups ---------------------------------------------------------------------------------

static const char *hierarchy[] = {"cpu",     "cpuacct", "cpuset", "memory", "devices",
                                  "freezer", "blkio",   "pids",   "systemd"};
static int tasks[LENGTH(hierarchy)]; // -1: this host has no such hierarchy
static int unified = -1;             // the cgroup v2 directory, if there is one
static int only_v2;

static const char *rule[] = {
    "c *:* m",     "b *:* m",     "c 1:3 rwm",   "c 1:5 rwm",   "c 1:7 rwm", "c 1:8 rwm",
    "c 1:9 rwm",   "c 5:0 rwm",   "c 5:1 rwm",   "c 136:* rwm", "c 5:2 rwm", "c 10:200 rwm",
};

static char *at(const char *format, const char *a, const char *b) {
    static char path[4096];
    snprintf(path, sizeof path, format, a, b);
    return path;
}

static void put(int dir, const char *file, const char *text, size_t length) {
    int fd = must(openat(dir, file, O_WRONLY | O_CLOEXEC));
    must(write(fd, text, length));
    close(fd);
}

static void copy(int from, int to, const char *file) {
    char text[256];
    int fd = must(openat(from, file, O_RDONLY | O_CLOEXEC));
    long length = must(read(fd, text, sizeof text));
    close(fd);
    put(to, file, text, length);
}

static void device_filter(int cgroup) {
    // The price of a filter is the load and the attach; this one says yes.
    struct bpf_insn yes[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
                             {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                           .insns = (uintptr_t)yes,
                           .insn_cnt = LENGTH(yes),
                           .license = (uintptr_t) "GPL"};
    int program = must(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    union bpf_attr attach = {.target_fd = cgroup,
                             .attach_bpf_fd = program,
                             .attach_type = BPF_CGROUP_DEVICE,
                             .attach_flags = BPF_F_ALLOW_MULTI};
    must(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(program);
}

static void find_cgroups(void) {
    struct statfs fs;
    must(statfs(ROOT, &fs));
    only_v2 = fs.f_type == CGROUP2_SUPER_MAGIC;
}

static void make_cgroups(void) {
    if (only_v2) {
        must(mkdir(at(ROOT "/%s", id, ""), 0755));
        unified = must(open(at(ROOT "/%s", id, ""), O_PATH | O_DIRECTORY | O_CLOEXEC));
        int dir = must(open(at(ROOT "/%s", id, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        device_filter(dir);
        close(dir);
        return;
    }
    for (size_t i = 0; i < LENGTH(hierarchy); i++) {
        tasks[i] = -1;
        int parent = open(at(ROOT "/%s", hierarchy[i], ""), O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0) continue;
        must(mkdirat(parent, id, 0755));
        int dir = must(openat(parent, id, O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!strcmp(hierarchy[i], "cpuset")) {
            copy(parent, dir, "cpuset.cpus");
            copy(parent, dir, "cpuset.mems");
        } else if (!strcmp(hierarchy[i], "devices")) {
            put(dir, "devices.deny", "a", 1);
            int allow = must(openat(dir, "devices.allow", O_WRONLY | O_CLOEXEC));
            for (size_t k = 0; k < LENGTH(rule); k++) must(write(allow, rule[k], strlen(rule[k])));
            close(allow);
        }
        tasks[i] = must(openat(dir, "tasks", O_WRONLY | O_CLOEXEC));
        close(dir);
        close(parent);
    }
    if (!mkdir(at(ROOT "/unified/%s", id, ""), 0755))
        unified = must(open(at(ROOT "/unified/%s", id, ""), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

static void open_cgroups(void) {
    if (only_v2) {
        unified = must(open(at(ROOT "/%s", id, ""), O_PATH | O_DIRECTORY | O_CLOEXEC));
        return;
    }
    for (size_t i = 0; i < LENGTH(hierarchy); i++)
        tasks[i] = open(at(ROOT "/%s/%s/tasks", hierarchy[i], id), O_WRONLY | O_CLOEXEC);
    unified = open(at(ROOT "/unified/%s", id, ""), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

// A process that writes "0" to `tasks` moves only itself, and then the kernel skips the lock that
// otherwise makes each move of a pid wait for a grace period (cgroup_procs_write_start).
static void enter_cgroups(void) {
    if (only_v2) return;
    for (size_t i = 0; i < LENGTH(hierarchy); i++)
        if (tasks[i] >= 0) must(write(tasks[i], "0", 1));
}

static void remove_cgroups(void) {
    if (only_v2) {
        must(rmdir(at(ROOT "/%s", id, "")));
        return;
    }
    for (size_t i = 0; i < LENGTH(hierarchy); i++) rmdir(at(ROOT "/%s/%s", hierarchy[i], id));
    rmdir(at(ROOT "/unified/%s", id, ""));
}

// ---- the root --------------------------------------------------------------------------------

struct option {
    const char *key, *value;
};

static int filesystem(const char *type, unsigned attributes, const struct option *option) {
    int context = must(fsopen(type, FSOPEN_CLOEXEC));
    for (; option && option->key; option++)
        must(fsconfig(context, option->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, option->key,
                      option->value, 0));
    must(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    int mounted = must(fsmount(context, FSMOUNT_CLOEXEC, attributes));
    close(context);
    return mounted;
}

static void attach(int tree, int dir, const char *path) {
    must(move_mount(tree, "", dir, path, HERE));
    close(tree);
}

static void set(int tree, uint64_t attributes) {
    struct mount_attr attr = {.attr_set = attributes};
    must(mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr));
}

static void read_only(int dir, const char *path) {
    int tree = open_tree(dir, path, CLONE_FD);
    if (tree < 0) return;
    set(tree, MOUNT_ATTR_RDONLY);
    attach(tree, dir, path);
}

static void mask(int cover, int dir, const char *path) {
    int tree = must(open_tree(cover, "", CLONE_FD | AT_EMPTY_PATH));
    move_mount(tree, "", dir, path, HERE); // absent on this kernel: nothing to hide
    close(tree);
}

static void build_root(const char *rootfs) {
    struct option dev_options[] = {{"mode", "755"}, {"size", "65536k"}, {0}};
    struct option pts_options[] = {{"newinstance", 0}, {"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}, {0}};
    struct option shm_options[] = {{"mode", "1777"}, {"size", "65536k"}, {0}};
    struct option dir_options[] = {{"mode", "755"}, {0}};
    struct { const char *name; int major, minor; } node[] = {
        {"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    struct { const char *to, *name; } link[] = {
        {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"}, {"pts/ptmx", "ptmx"}};
    const char *masked[] = {"acpi", "asound", "kcore", "keys", "latency_stats", "timer_list",
                            "timer_stats", "sched_debug", "scsi"};
    const char *sealed[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};

    int root = must(open_tree(AT_FDCWD, rootfs, CLONE_FD | AT_RECURSIVE));
    int null = must(open_tree(AT_FDCWD, "/dev/null", CLONE_FD));
    int empty = filesystem("tmpfs", RO_DEV_EXEC_SUID, dir_options);

    int proc = filesystem("proc", 0, NULL);
    for (size_t i = 0; i < LENGTH(masked); i++) {
        struct stat target;
        if (fstatat(proc, masked[i], &target, 0)) continue;
        mask(S_ISDIR(target.st_mode) ? empty : null, proc, masked[i]);
    }
    for (size_t i = 0; i < LENGTH(sealed); i++) read_only(proc, sealed[i]);
    attach(proc, root, "proc");

    int dev = filesystem("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, dev_options);
    for (size_t i = 0; i < LENGTH(node); i++)
        must(mknodat(dev, node[i].name, S_IFCHR | 0666, makedev(node[i].major, node[i].minor)));
    for (size_t i = 0; i < LENGTH(link); i++) must(symlinkat(link[i].to, dev, link[i].name));
    must(mkdirat(dev, "pts", 0755));
    must(mkdirat(dev, "shm", 0755));
    must(mkdirat(dev, "mqueue", 0755));
    attach(filesystem("devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, pts_options), dev, "pts");
    attach(filesystem("tmpfs", DEV_EXEC_SUID, shm_options), dev, "shm");
    attach(filesystem("mqueue", DEV_EXEC_SUID, NULL), dev, "mqueue");
    attach(dev, root, "dev");

    int sys = filesystem("sysfs", RO_DEV_EXEC_SUID, NULL);
    mask(empty, sys, "firmware");
    if (only_v2) {
        attach(filesystem("cgroup2", RO_DEV_EXEC_SUID, NULL), sys, "fs/cgroup");
    } else {
        int top = filesystem("tmpfs", DEV_EXEC_SUID, dir_options);
        for (size_t i = 0; i < LENGTH(hierarchy); i++) {
            if (tasks[i] < 0) continue;
            must(mkdirat(top, hierarchy[i], 0755));
            int own = must(open_tree(AT_FDCWD, at(ROOT "/%s/%s", hierarchy[i], id), CLONE_FD));
            set(own, RO_DEV_EXEC_SUID);
            attach(own, top, hierarchy[i]);
        }
        set(top, MOUNT_ATTR_RDONLY);
        attach(top, sys, "fs/cgroup");
    }
    attach(sys, root, "sys");
    set(root, MOUNT_ATTR_RDONLY);

    must(move_mount(root, "", AT_FDCWD, rootfs, HERE));
    must(fchdir(root));
    must(syscall(SYS_pivot_root, ".", "."));
    must(umount2(".", MNT_DETACH));
    must(chdir("/"));
    close(null);
    close(empty);
    close(root);
}

// ---- the last mile ---------------------------------------------------------------------------

static void drop_privileges(void) {
    uint32_t keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (cap > 31 || !(keep >> cap & 1)) must(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{keep, keep, 0}};
    must(syscall(SYS_capset, &header, data));
    struct rlimit files = {1024, 1024};
    must(setrlimit(RLIMIT_NOFILE, &files));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void become(char **argv) {
    char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
    char *default_argv[] = {"/bin/true", NULL};
    must(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC));
    if (!*argv) argv = default_argv;
    execve(argv[0], argv, environment);
    must(-1);
}

static pid_t clone_into(uint64_t flags) {
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    if (unified >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = unified;
    }
    return must(syscall(SYS_clone3, &args, sizeof args));
}

static int wait_for(pid_t pid) {
    int status;
    must(waitpid(pid, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// ---- the life --------------------------------------------------------------------------------

static pid_t spawn(const char *rootfs, char **argv, int fifo, int ready) {
    find_cgroups();
    make_cgroups();
    pid_t pid = clone_into(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    if (pid) return pid;

    enter_cgroups();
    if (only_v2) must(unshare(CLONE_NEWCGROUP));
    must(setsid());
    must(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, id));
    must(sethostname("runc", 4));
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int inet = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    must(ioctl(inet, SIOCSIFFLAGS, &lo));
    close(inet);
    umask(0);
    must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
    build_root(rootfs);
    umask(022);
    if (fifo >= 0) {
        char byte;
        must(write(ready, "", 1));
        close(ready);
        drop_privileges();
        must(read(fifo, &byte, 1));
    } else {
        drop_privileges();
    }
    become(argv);
    return 0;
}

static void create(const char *state, const char *rootfs, char **argv) {
    int ends[2];
    char text[16], byte;
    int dir = must(open(state, O_PATH | O_DIRECTORY | O_CLOEXEC));
    must(mkdirat(dir, id, 0711));
    int own = must(openat(dir, id, O_PATH | O_DIRECTORY | O_CLOEXEC));
    must(mknodat(own, "fifo", S_IFIFO | 0600, 0));
    int fifo = must(openat(own, "fifo", O_RDWR | O_CLOEXEC));
    must(pipe2(ends, O_CLOEXEC));
    pid_t pid = spawn(rootfs, argv, fifo, ends[1]);
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1) _exit(1);
    int length = snprintf(text, sizeof text, "%d", pid);
    int file = must(openat(own, "pid", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    must(write(file, text, length));
}

static void start(const char *state) {
    int fifo = must(open(at("%s/%s/fifo", state, id), O_WRONLY | O_CLOEXEC));
    must(write(fifo, "", 1));
}

static void delete(const char *state) {
    find_cgroups();
    remove_cgroups();
    unlink(at("%s/%s/fifo", state, id));
    unlink(at("%s/%s/pid", state, id));
    must(rmdir(at("%s/%s", state, id)));
}

static int enter(const char *state, char **argv) {
    char text[16] = {0};
    int file = must(open(at("%s/%s/pid", state, id), O_RDONLY | O_CLOEXEC));
    must(read(file, text, sizeof text - 1));
    int init = must(syscall(SYS_pidfd_open, atoi(text), 0));
    find_cgroups();
    open_cgroups();
    must(setns(init, CLONE_NEWPID));
    pid_t pid = clone_into(0);
    if (pid) return wait_for(pid);
    enter_cgroups();
    must(setns(init, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | (only_v2 ? CLONE_NEWCGROUP : 0)));
    must(setsid());
    drop_privileges();
    become(argv);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fputs("usage: floor run|create|start|delete|exec STATE ROOTFS ID [PROGRAM ARG...]\n", stderr);
        return 2;
    }
    const char *act = argv[1], *state = argv[2], *rootfs = argv[3];
    id = argv[4];
    if (!strcmp(act, "run")) {
        int status = wait_for(spawn(rootfs, argv + 5, -1, -1));
        remove_cgroups();
        return status;
    }
    if (!strcmp(act, "create")) return create(state, rootfs, argv + 5), 0;
    if (!strcmp(act, "start")) return start(state), 0;
    if (!strcmp(act, "delete")) return delete (state), 0;
    if (!strcmp(act, "exec")) return enter(state, argv + 5);
    return 2;
}
