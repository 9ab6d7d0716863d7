#pragma once
// Runs a functor for every (row, column) of a rectangle: the one launcher of the library.
//
// On the CPU each thread takes one contiguous piece of the rectangle in row-major order and the inner loop runs along
// a row, so that a body which reads row-wise constants is vectorised by the compiler. On CUDA it is a grid-stride loop
// with neighbouring threads on neighbouring columns. The functor is copied; its call operator is const and writes only
// what it alone writes, or an integer minimum. There is no reduction, no shared memory and no dynamic scheduling here:
// which thread runs an element never shows in a result.
//
// For scripts/sanitize.sh: P2D3D_STD_THREAD launches by std::thread, as gcc's thread sanitizer does not know OpenMP;
// P2D3D_ONE_ISA compiles the CPU loops once, without the instruction sets chosen at run time.

#ifdef P2D3D_STD_THREAD
#include <functional>
#include <thread>
#include <vector>
#else
#include <omp.h>
#endif

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "core/exec.hpp"
#include "core/macros.hpp"
#ifdef __CUDACC__
#include "core/cuda_check.hpp"
#endif

namespace detail {

template <class F> inline __attribute__((always_inline)) void run(F f, int64_t columns, int64_t begin, int64_t end) {
  while (begin < end) {
    const int64_t row = begin / columns, first = begin - row * columns, last = std::min(columns, end - row * columns);
    for (int64_t column = first; column < last; ++column) f(row, column);
    begin = row * columns + last;
  }
}

// The same loop three times; `flatten` brings the functor's body along into each instruction set.
template <class F> __attribute__((noinline, flatten)) void run_base(const F &f, int64_t n, int64_t b, int64_t e) {
  run(f, n, b, e);
}
#if defined(__x86_64__) && !defined(P2D3D_ONE_ISA)
template <class F>
__attribute__((noinline, flatten,
               target("avx2,fma,bmi,bmi2,lzcnt,popcnt,movbe,f16c"))) void run_v3(const F &f, int64_t n, int64_t b,
                                                                                 int64_t e) {
  run(f, n, b, e);
}
template <class F>
__attribute__((noinline, flatten,
               target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi,bmi2,lzcnt,popcnt,movbe,f16c"))) void
run_v4(const F &f, int64_t n, int64_t b, int64_t e) {
  run(f, n, b, e);
}
#endif

template <class F> void run_piece(const F &f, int64_t columns, int64_t begin, int64_t end) {
#if defined(__x86_64__) && !defined(P2D3D_ONE_ISA)
  if (active_isa() == Isa::x86_64_v4) return run_v4(f, columns, begin, end);
  if (active_isa() == Isa::x86_64_v3) return run_v3(f, columns, begin, end);
#endif
  run_base(f, columns, begin, end);
}

#ifdef __CUDACC__
constexpr int kBlock = 256;

template <class F> __global__ void __launch_bounds__(kBlock) for_each_kernel(F f, int64_t columns, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * kBlock;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n; i += step) {
    const int64_t row = i / columns;
    f(row, i - row * columns);
  }
}

template <class Kernel, class... Args> void launch(const Exec &on, Kernel kernel, int64_t blocks, const Args &...args) {
  DeviceGuard guard(on.device);
  kernel<<<unsigned(std::min<int64_t>(blocks, 1 << 20)), kBlock, 0, static_cast<cudaStream_t>(on.stream)>>>(args...);
  cuda_check(cudaGetLastError(), "a kernel launch");
}
#endif

}  // namespace detail

/// The CPU side alone, for a functor that CUDA has another one for.
template <class F> void for_each_on_cpu(const Exec &on, int64_t rows, int64_t columns, const F &f) {
  const int64_t n = rows * columns;
  if (n == 0) return;
  if (on.cuda()) device_count();  // throws: no CUDA side in this build
  const int64_t threads = std::min<int64_t>(on.threads, n);
  if (threads <= 1 || in_forked_child()) return detail::run_piece(f, columns, 0, n);
#ifdef P2D3D_STD_THREAD
  std::vector<std::thread> team;
  for (int64_t i = 0; i < threads; ++i)
    team.emplace_back(detail::run_piece<F>, std::cref(f), columns, n * i / threads, n * (i + 1) / threads);
  for (std::thread &worker : team) worker.join();
#else
#pragma omp parallel num_threads(static_cast<int>(threads))
  {
    const int64_t piece = omp_get_thread_num(), pieces = omp_get_num_threads();
    detail::run_piece(f, columns, n / pieces * piece + std::min(piece, n % pieces),
                      n / pieces * (piece + 1) + std::min(piece + 1, n % pieces));
  }
#endif
}

/// CUDA's side alone, for a functor that the CPU has another one for; or its rehearsal on the CPU, one by one.
template <class F> void for_each_as_cuda(const Exec &on, int64_t rows, int64_t columns, const F &f) {
  const int64_t n = rows * columns;
  if (n == 0) return;
#ifdef __CUDACC__
  const int64_t blocks = (n + detail::kBlock - 1) / detail::kBlock;
  if (on.cuda()) return detail::launch(on, detail::for_each_kernel<F>, blocks, f, columns, n);
#endif
  if (on.cuda()) device_count();  // throws: no CUDA side in this build
  detail::run_base(f, columns, 0, n);
}

template <class F> void for_each(const Exec &on, int64_t rows, int64_t columns, const F &f) {
  if (on.cuda()) for_each_as_cuda(on, rows, columns, f);
  else for_each_on_cpu(on, rows, columns, f);
}
