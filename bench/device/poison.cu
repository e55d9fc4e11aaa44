// Preloaded into engine processes: breaks the CUDA context once CUDA_POISON_FILE appears, as a faulty kernel does.
#include <cuda_runtime.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <unistd.h>

__global__ void writeNowhere() { *reinterpret_cast<volatile int *>(16) = 1; }

__attribute__((constructor)) static void arm() {
  char command[4096] = {};
  FILE *file = fopen("/proc/self/cmdline", "r");
  size_t read = file ? fread(command, 1, sizeof command - 1, file) : 0;
  if (file) fclose(file);
  for (size_t i = 0; i < read; ++i) if (!command[i]) command[i] = ' ';
  const char *trigger = getenv("CUDA_POISON_FILE");
  if (!trigger || !strstr(command, "engine-main")) return;
  std::thread([trigger] {
    // whoever removes the file is the one
    while (unlink(trigger) != 0) usleep(10000);
    writeNowhere<<<1, 1>>>();
    fprintf(stderr, "poisoned: %s\n", cudaGetErrorString(cudaDeviceSynchronize()));
  }).detach();
}
