// The process that holds a pod's namespaces open: PID 1 of the sandbox. It reaps what is re-parented to it
// and exits on SIGTERM or SIGINT. Freestanding, because it runs once per pod: no libc, one page of data,
// about 1 KiB of code.
//
// PID 1 of a PID namespace gets no signal whose action is the default one, so the three are blocked and
// waited for.

#if defined(__x86_64__)
enum { SYS_rt_sigprocmask = 14, SYS_exit_group = 231, SYS_wait4 = 61, SYS_rt_sigtimedwait = 128 };

static long Syscall(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { SYS_rt_sigprocmask = 135, SYS_exit_group = 94, SYS_wait4 = 260, SYS_rt_sigtimedwait = 137 };

static long Syscall(long number, long a, long b, long c, long d) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
}
#else
#error "pause.c: add this architecture's system call numbers and instruction"
#endif

enum {
  kSigBlock = 0,
  kSigInt = 2,
  kSigTerm = 15,
  kSigChld = 17,
  kSigSetBytes = 8,
  kWaitNoHang = 1,
  kAnyChild = -1
};

__attribute__((noreturn, used)) void PauseMain(void) {
  static const unsigned long kSignals = 1UL << (kSigInt - 1) | 1UL << (kSigTerm - 1) | 1UL << (kSigChld - 1);
  Syscall(SYS_rt_sigprocmask, kSigBlock, (long)&kSignals, 0, kSigSetBytes);
  for (;;) {
    long signal = Syscall(SYS_rt_sigtimedwait, (long)&kSignals, 0, 0, kSigSetBytes);
    if (signal == kSigTerm || signal == kSigInt) {
      for (;;) Syscall(SYS_exit_group, 0, 0, 0, 0);
    }
    // SIGCHLD, or an interrupted wait: one signal may stand for many children.
    while (Syscall(SYS_wait4, kAnyChild, 0, kWaitNoHang, 0) > 0) {
    }
  }
}

// The stack pointer is 16-byte aligned here, as the ABI wants it before a call.
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  call PauseMain\n");
#else
__asm__(".globl _start\n_start:\n  mov x29, #0\n  bl PauseMain\n");
#endif
