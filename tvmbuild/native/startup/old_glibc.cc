// Start-up for an older glibc than the one that this program is linked against.
//
// Since glibc 2.34 the start-up object crt1.o calls __libc_start_main@GLIBC_2.34 and leaves the constructors to the C
// library; an older C library lacks that version and expects the program to bring the function that runs them. The
// program is linked with --wrap=__libc_start_main, so that crt1.o calls the function below: it calls the old version,
// which every glibc still has, and passes the missing function along.

extern "C" {

using InitFunction = void (*)(int, char**, char**);

extern InitFunction __preinit_array_start[] __attribute__((visibility("hidden")));
extern InitFunction __preinit_array_end[] __attribute__((visibility("hidden")));
extern InitFunction __init_array_start[] __attribute__((visibility("hidden")));
extern InitFunction __init_array_end[] __attribute__((visibility("hidden")));

int tvmbuild_old_start_main(int (*main)(int, char**, char**), int argc, char** argv, InitFunction init, void (*fini)(),
                            void (*rtld_fini)(), void* stack_end);

#if defined(__aarch64__)
__asm__(".symver tvmbuild_old_start_main, __libc_start_main@GLIBC_2.17");
#elif defined(__x86_64__)
__asm__(".symver tvmbuild_old_start_main, __libc_start_main@GLIBC_2.2.5");
#else
#error "no version of __libc_start_main is known for this architecture"
#endif

static void RunConstructors(int argc, char** argv, char** envp) {
  for (InitFunction* at = __preinit_array_start; at != __preinit_array_end; ++at) (*at)(argc, argv, envp);
  for (InitFunction* at = __init_array_start; at != __init_array_end; ++at) (*at)(argc, argv, envp);
}

int __wrap___libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, InitFunction init, void (*fini)(),
                             void (*rtld_fini)(), void* stack_end) {
  return tvmbuild_old_start_main(main, argc, argv, init != nullptr ? init : RunConstructors, fini, rtld_fini,
                                 stack_end);
}

}  // extern "C"
