#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

/// Where and how an operation runs: on one CUDA stream, or on so many CPU threads.
struct Exec {
  int device = -1;         // CUDA ordinal; -1 is the CPU
  void *stream = nullptr;  // cudaStream_t
  int threads = 1;         // CPU threads, as torch has them
  bool rehearse = false;   // on the CPU, one after another, the functors that CUDA would run: for tests without a GPU

  bool cuda() const { return device >= 0; }
  bool cuda_functors() const { return cuda() || rehearse; }
};

/// Instruction sets the CPU loops are compiled for, of which the best that this CPU has is taken.
enum class Isa { x86_64, x86_64_v3, x86_64_v4 };
Isa active_isa();
bool isa_available(Isa isa);
void set_isa(Isa isa);  // for tests: contraction is off, so all give the same bits

/// True in a child of fork: the parent's OpenMP threads do not exist there, and a parallel region would wait for them.
bool in_forked_child();

/// Asks Linux to back these bytes of fresh host memory with huge pages; a hint, without effect elsewhere.
void advise_huge_pages(uintptr_t address, size_t size);

/// How many CUDA devices this process can use; throws a readable std::runtime_error where that cannot be told.
int device_count();
std::string device_name(int device);
