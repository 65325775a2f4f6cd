/* A plugin for qemu-aarch64 (plugin interface 1) that counts executed guest instructions between two marks.
 *
 * The guest marks with a system call that no kernel has:
 *   syscall(0x7777, 1) starts at zero
 *   syscall(0x7777, 2) appends the count as one line to the file named by out=PATH
 *   syscall(0x7777, 3) does the same, and writes every executed block to PATH.blocks:
 *                      its address, how often it ran, and its instructions, all hexadecimal but the second
 * One guest thread only.
 *
 *   cc -O2 -shared -fPIC -o count.so count.c
 *   qemu-aarch64 -plugin ./count.so,out=counts PROGRAM
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of qemu-plugin.h, which Debian does not package, what is used here. */
typedef uint64_t id;
struct block;
struct instruction;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id, void (*)(id, struct block *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int add, void *to, uint64_t value);
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern uint64_t qemu_plugin_tb_vaddr(const struct block *);
extern struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
extern const void *qemu_plugin_insn_data(const struct instruction *);
extern void qemu_plugin_register_vcpu_syscall_cb(id, void (*)(id, unsigned cpu, int64_t number, uint64_t, uint64_t,
                                                              uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
int qemu_plugin_version = 1;

/* A block that was translated, perhaps not for the first time. */
struct seen {
    struct seen *next;
    uint64_t address, runs;
    size_t size;
    uint32_t words[];
};
static struct seen *all;
static const char *path;
static FILE *out;

static void translated(id plugin, struct block *block) {
    size_t size = qemu_plugin_tb_n_insns(block);
    struct seen *seen = malloc(sizeof *seen + size * sizeof *seen->words);
    *seen = (struct seen){all, qemu_plugin_tb_vaddr(block), 0, size};
    for (size_t i = 0; i < size; i++)
        memcpy(&seen->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof *seen->words);
    all = seen;
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &seen->runs, 1);
}

static void write_blocks(void) {
    char name[4200];
    snprintf(name, sizeof name, "%s.blocks", path);
    FILE *file = fopen(name, "w");
    for (const struct seen *seen = all; file && seen; seen = seen->next) {
        if (!seen->runs) continue;
        fprintf(file, "%" PRIx64 " %" PRIu64 " ", seen->address, seen->runs);
        for (size_t i = 0; i < seen->size; i++) fprintf(file, "%08x", seen->words[i]);
        fputc('\n', file);
    }
    if (file) fclose(file);
}

static void called(id plugin, unsigned cpu, int64_t number, uint64_t mark, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h) {
    if (number != 0x7777) return;
    uint64_t count = 0;
    for (struct seen *seen = all; seen; seen = seen->next) {
        count += seen->runs * seen->size;
        if (mark == 1) seen->runs = 0;
    }
    if (mark == 1) return;
    fprintf(out, "%" PRIu64 "\n", count);
    fflush(out);
    if (mark == 3) write_blocks();
}

int qemu_plugin_install(id plugin, const void *info, int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) path = strdup(argv[i] + 4);
    out = path ? fopen(path, "w") : NULL;
    if (!out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
    qemu_plugin_register_vcpu_syscall_cb(plugin, called);
    return 0;
}
