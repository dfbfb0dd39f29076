// peak COMMAND [ARG...]: runs COMMAND with its output on stderr and prints one number, its peak
// resident set in KB: the larger of the command's own and of every process it waited for, which is
// what wait4(2) reports. Small and static because a spawned process starts out with the peak of
// the one that spawned it: this program's own size, about 650 KB, is the least it can report.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct rusage usage;
    int status;
    if (argc < 2) return 2;
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(2, 1);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status != 0) return 1;
    printf("%ld\n", usage.ru_maxrss);
    return 0;
}
