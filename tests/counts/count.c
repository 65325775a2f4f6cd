/* A plugin for qemu-aarch64 (plugin interface 1) that counts executed guest instructions between two marks.
 *
 * The guest marks with a system call that no kernel has: syscall(0x7777, 1) starts at zero, syscall(0x7777, 2) appends
 * the count as one line to the file named by out=PATH. One guest thread only.
 *
 *   cc -O2 -shared -fPIC -o count.so count.c
 *   qemu-aarch64 -plugin ./count.so,out=counts PROGRAM
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Of qemu-plugin.h, which Debian does not package, what is used here. */
typedef uint64_t id;
struct block;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct block *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int add, void *to, uint64_t value);
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern void qemu_plugin_register_vcpu_syscall_cb(id, void (*)(id, unsigned cpu, int64_t number, uint64_t, uint64_t,
                                                              uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
int qemu_plugin_version = 1;

static uint64_t count;
static FILE *out;

static void translated(id plugin, struct block *block) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &count, qemu_plugin_tb_n_insns(block));
}

static void called(id plugin, unsigned cpu, int64_t number, uint64_t mark, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
    if (number != 0x7777) return;
    if (mark == 1) count = 0;
    else if (out) { fprintf(out, "%" PRIu64 "\n", count); fflush(out); }
}

int qemu_plugin_install(id plugin, const void *info, int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    qemu_plugin_register_vcpu_syscall_cb(plugin, called);
    return 0;
}
