#pragma once
// What differs between the two compilers that read every operation: nvcc (both sides) and g++ (the CPU side alone).

#ifdef __CUDACC__
#define P2D3D_HD __host__ __device__ __forceinline__
#else
#define P2D3D_HD inline __attribute__((always_inline))
#endif

/// A row that does not exist stops the kernel, and torch then reports the launch as failed. On the CPU Python has
/// looked.
#ifdef __CUDA_ARCH__
#define P2D3D_DEVICE_CHECK(condition) \
  if (!(condition)) __trap()
#else
#define P2D3D_DEVICE_CHECK(condition) ((void)0)
#endif

/// A loop over the first `width` of at most W channels: unrolled on the device, so that arrays of W stay in registers.
#ifdef __CUDA_ARCH__
#define P2D3D_FOR_CHANNELS(c, W, width) _Pragma("unroll") for (int c = 0; c < (W); ++c) if (c < (width))
#else
#define P2D3D_FOR_CHANNELS(c, W, width) for (int c = 0; c < (width); ++c)
#endif

/// Asks for a line of memory that will be read soon, where the CPU cannot guess it.
#ifdef __CUDA_ARCH__
#define P2D3D_PREFETCH(address) ((void)0)
#else
#define P2D3D_PREFETCH(address) __builtin_prefetch(address)
#endif
