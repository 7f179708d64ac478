// AMX in software, for tests on CPUs without it: preloaded into a process, it catches the signal that each instruction raises there, does what
// Intel's manual says the instruction does, and goes on after it. What the manual forbids (shapes that do not fit, registers used before
// they are configured or without a shape) or the kernels have no use for ends the process.
//
// Built and used by check_amx.sh. With -DWRONG it multiplies as the hardware does not: tests that pass then have not used it.
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <xmmintrin.h>

#define REGISTERS 8
#define ROWS 16
#define ROW_BYTES 64

// One thread's registers.
static __thread struct {
  int configured;
  uint16_t bytes_of_row[REGISTERS];
  uint8_t rows[REGISTERS];
  uint8_t data[REGISTERS][ROWS][ROW_BYTES];
} tiles;

static void refuse(const char *what, const uint8_t *at) {
  fprintf(stderr, "emulated AMX: %s at", what);
  for (int i = 0; i < 9; i++) fprintf(stderr, " %02x", at[i]);
  fprintf(stderr, "\n");
  abort();
}

// The general registers in the order of their numbers.
static const int REGISTER_OF[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

struct operand {
  uint8_t *base;    // address without the index
  int64_t stride;   // index * scale
  int length;       // bytes of ModRM, SIB and displacement
};

// A memory operand whose ModRM byte is at `at`; `vex1` holds the inverted X (bit 6) and B (bit 5).
static struct operand memory(const uint8_t *at, uint8_t vex1, const greg_t *registers) {
  const uint8_t *start = at, modrm = *at++;
  const int high_b = vex1 & 0x20 ? 0 : 8, high_x = vex1 & 0x40 ? 0 : 8, mod = modrm >> 6;
  int base = (modrm & 7) | high_b, has_base = 1;
  struct operand found = {0};
  if ((modrm & 7) == 4) {
    const uint8_t sib = *at++;
    const int index = (sib >> 3 & 7) | high_x;
    base = (sib & 7) | high_b;
    has_base = !((sib & 7) == 5 && mod == 0);
    if (index != 4) found.stride = registers[REGISTER_OF[index]] * (1 << (sib >> 6));
  } else if ((modrm & 7) == 5 && mod == 0) {
    refuse("an address relative to the instruction", start);
  }
  int64_t displacement = 0;
  if (mod == 1) {
    displacement = (int8_t)*at++;
  } else if (mod == 2 || !has_base) {
    int32_t wide;
    memcpy(&wide, at, 4);
    displacement = wide;
    at += 4;
  }
  found.base = (uint8_t *)((has_base ? registers[REGISTER_OF[base]] : 0) + displacement);
  found.length = (int)(at - start);
  return found;
}

static void configure(const uint8_t *from, const uint8_t *at) {
  memset(&tiles, 0, sizeof tiles);
  if (from[0] != 1) refuse("a palette other than 1", at);
  for (int i = 1; i < 16; i++) if (from[i]) refuse("a start row or reserved bytes", at);
  for (int i = 0; i < 16; i++) {
    uint16_t bytes;
    memcpy(&bytes, from + 16 + 2 * i, 2);
    const uint8_t rows = from[48 + i];
    if (i >= REGISTERS ? bytes || rows : bytes > ROW_BYTES || rows > ROWS || !bytes != !rows) refuse("a bad shape", at);
    if (i < REGISTERS) tiles.bytes_of_row[i] = bytes, tiles.rows[i] = rows;
  }
  tiles.configured = 1;
}

static float bf16(const uint8_t *from) {
  uint16_t half;
  memcpy(&half, from, 2);
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// sums += rows * weights; `opcode` and `prefix` tell of what numbers.
static void multiply(int sums, int rows, int weights, uint8_t opcode, int prefix, const uint8_t *at) {
  if (sums == rows || sums == weights || rows == weights) refuse("a register twice", at);
  const int depth = tiles.bytes_of_row[rows] / 4, columns = tiles.bytes_of_row[sums] / 4;
  if (tiles.rows[sums] != tiles.rows[rows] || tiles.bytes_of_row[sums] != tiles.bytes_of_row[weights] ||
      tiles.rows[weights] != depth || tiles.bytes_of_row[rows] % 4 || tiles.bytes_of_row[sums] % 4)
    refuse("shapes that do not fit", at);
  for (int m = 0; m < tiles.rows[sums]; m++) {
    if (opcode == 0x5e) {
#ifdef WRONG
      const int signed_rows = 0;
#else
      const int signed_rows = prefix >= 2;
#endif
      const int signed_weights = prefix == 3 || prefix == 1;
      for (int n = 0; n < columns; n++) {
        uint32_t sum;
        memcpy(&sum, &tiles.data[sums][m][4 * n], 4);
        for (int k = 0; k < depth; k++)
          for (int i = 0; i < 4; i++) {
            const uint8_t x = tiles.data[rows][m][4 * k + i], w = tiles.data[weights][k][4 * n + i];
            sum += (uint32_t)((signed_rows ? (int8_t)x : (int)x) * (signed_weights ? (int8_t)w : (int)w));
          }
        memcpy(&tiles.data[sums][m][4 * n], &sum, 4);
      }
    } else {
      // Nearest even; subnormals are zero, read or made. The program's own way comes back with its registers.
      _mm_setcsr(0x1f80 | 0x8040);
      for (int n = 0; n < columns; n++) {
        volatile float even = 0, odd = 0;
        for (int k = 0; k < depth; k++) {
          even = fmaf(bf16(&tiles.data[rows][m][4 * k]), bf16(&tiles.data[weights][k][4 * n]), even);
          odd = fmaf(bf16(&tiles.data[rows][m][4 * k + 2]), bf16(&tiles.data[weights][k][4 * n + 2]), odd);
        }
        float sum;
        memcpy(&sum, &tiles.data[sums][m][4 * n], 4);
#ifdef WRONG
        const volatile float both = even - odd;
#else
        const volatile float both = even + odd;
#endif
        sum = sum + both;
        memcpy(&tiles.data[sums][m][4 * n], &sum, 4);
      }
    }
  }
}

static void on_signal(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *at = (const uint8_t *)registers[REG_RIP];
  (void)info;
  // VEX of three bytes, the map of 0F 38, W 0, 128 bits. Anything else is what the signal says.
  if (at[0] != 0xc4 || (at[1] & 0x1f) != 2 || at[2] & 0x84) {
    signal(number, SIG_DFL);
    return;
  }
  const uint8_t opcode = at[3], modrm = at[4];
  const int prefix = at[2] & 3, third = ~at[2] >> 3 & 15, is_register = modrm >> 6 == 3, reg = modrm >> 3 & 7, rm = modrm & 7;
  int length = 5;
  // Registers are eight; the third operand is that of products alone.
  if (!(at[1] & 0x80) || (is_register && !(at[1] & 0x20)) || (third && opcode < 0x50)) refuse("a register that is not there", at);
  if ((opcode != 0x49 || prefix == 3) && !(tiles.configured && tiles.rows[reg])) refuse("a register without a shape", at);
  if (opcode == 0x49 && prefix == 0 && !is_register && reg == 0) {
    const struct operand from = memory(at + 4, at[1], registers);
    configure(from.base + from.stride, at);
    length = 4 + from.length;
  } else if (opcode == 0x49 && prefix == 0 && modrm == 0xc0) {
    memset(&tiles, 0, sizeof tiles);
  } else if (opcode == 0x49 && prefix == 3 && is_register && rm == 0) {
    memset(tiles.data[reg], 0, sizeof tiles.data[reg]);
  } else if (opcode == 0x4b && prefix != 0 && !is_register && rm == 4) {
    const struct operand place = memory(at + 4, at[1], registers);
    if (prefix != 2) memset(tiles.data[reg], 0, sizeof tiles.data[reg]);
    for (int row = 0; row < tiles.rows[reg]; row++) {
      uint8_t *there = place.base + row * place.stride;
      if (prefix == 2) memcpy(there, tiles.data[reg][row], tiles.bytes_of_row[reg]);
      else memcpy(tiles.data[reg][row], there, tiles.bytes_of_row[reg]);
    }
    length = 4 + place.length;
  } else if ((opcode == 0x5e || (opcode == 0x5c && prefix == 2)) && is_register && third < REGISTERS) {
    multiply(reg, rm, third, opcode, prefix, at);
  } else {
    refuse("an instruction that is not known", at);
  }
  registers[REG_RIP] += length;
}

__attribute__((constructor)) static void begin(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  if (sigaction(SIGILL, &action, NULL)) abort();
}
