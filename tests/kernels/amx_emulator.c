/* AMX's tiles on a processor without them: a handler of SIGILL computes what each instruction would.
 *
 * Intel, Software Developer's Manual, volume 2: LDTILECFG, TILERELEASE, TILEZERO, TILELOADD,
 * TILESTORED, TDPBSSD, TDPBSUD. What would fault there ends the process here, so a kernel that
 * passes on this emulator has configured its tiles, and their shapes fit. On a processor with AMX
 * no instruction comes here.
 *
 *     cc -O2 -shared -fPIC -o amx_emulator.so amx_emulator.c
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };

typedef struct {
    int rows, bytes; /* as configured */
    uint8_t row[ROWS][BYTES];
} Tile;

typedef struct {
    int configured;
    Tile tile[TILES];
} State;

/* Of each thread; a pointer, since a library that is loaded late has little room for more. */
static __thread __attribute__((tls_model("initial-exec"))) State *state;

static long products;

long emulated_products(void) { return products; }

static const int NUMBER[16] = { /* of registers, as instructions encode them */
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

typedef struct {
    int map, prefix, opcode, mod, reg, rm, vvvv;
    uint8_t *address; /* of memory, without an index */
    int64_t stride;   /* that index, scaled */
    int length;
} Instruction;

static int decode(const uint8_t *code, const greg_t *registers, Instruction *in) {
    if (code[0] != 0xC4) return 0; /* VEX of three bytes */
    int x = !(code[1] & 0x40), b = !(code[1] & 0x20);
    in->map = code[1] & 0x1F;
    in->prefix = code[2] & 3;
    in->vvvv = ~(code[2] >> 3) & 15;
    in->opcode = code[3];
    in->mod = code[4] >> 6, in->reg = code[4] >> 3 & 7, in->rm = code[4] & 7;
    const uint8_t *next = code + 5;
    int base = in->rm | b << 3, index = 4, scale = 0, has_base = 1, relative = 0;
    in->address = 0, in->stride = 0;
    if (in->mod != 3) {
        if (in->rm == 4) {
            base = (*next & 7) | b << 3, index = (*next >> 3 & 7) | x << 3, scale = *next >> 6;
            has_base = !(in->mod == 0 && (base & 7) == 5);
            next++;
        } else if (in->mod == 0 && in->rm == 5) {
            has_base = 0, relative = 1;
        }
        int64_t offset = 0;
        if (in->mod == 1) {
            offset = (int8_t)*next++;
        } else if (in->mod == 2 || !has_base) {
            int32_t wide;
            memcpy(&wide, next, 4);
            offset = wide, next += 4;
        }
        if (has_base) offset += registers[NUMBER[base]];
        if (relative) offset += (int64_t)next;
        if (index != 4) in->stride = (int64_t)registers[NUMBER[index]] << scale;
        in->address = (uint8_t *)offset;
    }
    in->length = next - code;
    return 1;
}

static int configure(const uint8_t *content) {
    memset(state, 0, sizeof *state);
    if (content[0] != 1) return 0;
    for (int i = 1; i < 64; i++) { /* the first row to resume at, and all that is reserved */
        int used = (i >= 16 && i < 32) || (i >= 48 && i < 56);
        if (!used && content[i]) return 0;
    }
    for (int i = 0; i < TILES; i++) {
        int bytes = content[16 + 2 * i] | content[17 + 2 * i] << 8, rows = content[48 + i];
        if (bytes > BYTES || rows > ROWS || !bytes != !rows) return 0;
        state->tile[i].bytes = bytes, state->tile[i].rows = rows;
    }
    return state->configured = 1;
}

static int multiply(Tile *sums, const Tile *a, const Tile *b, int is_unsigned) {
    if (sums == a || a == b || sums == b || sums->bytes % 4 || a->bytes % 4 ||
        sums->bytes != b->bytes || sums->rows != a->rows || a->bytes / 4 != b->rows)
        return 0;
    for (int m = 0; m < sums->rows; m++)
        for (int k = 0; k < b->rows; k++)
            for (int n = 0; n < sums->bytes / 4; n++) {
                uint32_t total;
                memcpy(&total, sums->row[m] + 4 * n, 4);
                for (int j = 0; j < 4; j++) {
                    uint8_t factor = b->row[k][4 * n + j];
                    int y = is_unsigned ? factor : (int8_t)factor;
                    total += (uint32_t)((int8_t)a->row[m][4 * k + j] * y);
                }
                memcpy(sums->row[m] + 4 * n, &total, 4);
            }
    __atomic_fetch_add(&products, 1, __ATOMIC_RELAXED);
    return 1;
}

static int execute(const Instruction *in) {
    enum { NONE, P66, F3, F2 };
    if (in->map != 2) return 0;
    if (!state) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        void *memory = mmap(0, sizeof *state, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) return 0;
        state = memory;
    }
    if (in->opcode == 0x49 && in->prefix == NONE) {
        if (in->mod != 3) return configure(in->address + in->stride);
        memset(state, 0, sizeof *state);
        return in->reg == 0 && in->rm == 0;
    }
    Tile *tile = &state->tile[in->reg];
    if (!state->configured || !tile->rows) return 0;
    if (in->opcode == 0x49 && in->prefix == F2 && in->mod == 3) {
        memset(tile->row, 0, sizeof tile->row);
        return 1;
    }
    if (in->opcode == 0x4B && in->mod != 3 && in->rm == 4) {
        for (int i = 0; i < tile->rows; i++) {
            uint8_t *place = in->address + i * in->stride;
            if (in->prefix == F2)
                memcpy(tile->row[i], place, tile->bytes);
            else if (in->prefix == F3)
                memcpy(place, tile->row[i], tile->bytes);
            else
                return 0;
        }
        return 1;
    }
    if (in->opcode == 0x5E && in->mod == 3 && in->vvvv < TILES && in->prefix >= F3)
        return multiply(tile, &state->tile[in->rm], &state->tile[in->vvvv], in->prefix == F3);
    return 0;
}

static void handle(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    Instruction in;
    if (decode((const uint8_t *)registers[REG_RIP], registers, &in) && execute(&in)) {
        registers[REG_RIP] += in.length;
        return;
    }
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    char text[] = "amx_emulator: would fault: .. .. .. .. .. .. .. ..\n";
    for (int i = 0; i < 8; i++) {
        text[27 + 3 * i] = "0123456789abcdef"[code[i] >> 4];
        text[28 + 3 * i] = "0123456789abcdef"[code[i] & 15];
    }
    if (write(2, text, sizeof text - 1)) { /* then the instruction faults again */ }
    signal(number, SIG_DFL);
    (void)info;
}

int emulate(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};
    return sigaction(SIGILL, &action, 0);
}
