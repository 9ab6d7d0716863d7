#pragma once
// What the sanitizer driver is made of: arrays that end where their shape says, a fixed generator, and calls whose
// results may not depend on how they are run. What an operation computes is the business of the tests in Python.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>

#include "core/exec.hpp"
#include "core/half.hpp"
#include "core/view.hpp"

/// A dense array in memory of its own, not one element longer than its shape. Null where it is empty, as torch's are,
/// or not given.
template <class T, int N> class Array {
 public:
  Array() = default;
  template <class... Size> explicit Array(int64_t first, Size... more) : shape_{first, int64_t(more)...} {
    static_assert(1 + sizeof...(more) == N);
    if (size()) data_.reset(new T[size_t(size())]);
  }

  operator View<T, N>() const { return view<T>(); }
  operator View<const T, N>() const { return view<const T>(); }
  int64_t shape(int d) const { return shape_[d]; }
  int64_t size() const { return View<T, N>(*this).size(); }
  T *begin() const { return data_.get(); }
  T *end() const { return begin() + size(); }
  T &operator[](int64_t i) const { return data_[size_t(i)]; }

  /// As an output that comes filled, with this value or with what it holds: each run finds it so.
  void fill(T value) {
    std::fill(begin(), end(), value);
    fill();
  }
  void fill() { filled_ = copy(); }

  // For same_bits below.
  void prepare(int run) {
    if (filled_) std::copy_n(filled_.get(), size(), begin());
    else if (size()) std::memset(static_cast<void *>(begin()), 0x11 * (run + 1), size_t(size()) * sizeof(T));
  }
  void remember() { first_ = copy(); }
  /// The first element that is not as remembered, or -1. NaN equals NaN.
  int64_t difference() const {
    for (int64_t i = 0; i < size(); ++i) {
      const T a = data_[size_t(i)], b = first_[size_t(i)];
      if (std::memcmp(&a, &b, sizeof(T)) != 0 && !(a != a && b != b)) return i;
    }
    return -1;
  }

 private:
  template <class U> View<U, N> view() const {
    View<U, N> out;
    out.data = data_.get();
    std::copy_n(shape_, N, out.shape);
    return out;
  }
  std::unique_ptr<T[]> copy() const {
    std::unique_ptr<T[]> out(new T[size_t(size())]);
    std::copy(begin(), end(), out.get());
    return out;
  }

  int64_t shape_[N] = {};
  std::unique_ptr<T[]> data_, filled_, first_;
};

[[noreturn]] inline void fail(const std::string &what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

/// Calls op(on) on 1, 2 and 5 threads, on 5 again, and with the functors of CUDA, and fails unless each call leaves the
/// same bits in the outputs. Each finds another pattern in those that do not come filled, so that an element which is
/// not written differs.
template <class Op, class... Outputs> void same_bits(const std::string &what, const Op &op, Outputs &...outputs) {
  const int threads[] = {1, 2, 5, 5, 1};
  for (int run = 0; run < 5; ++run) {
    Exec on;
    on.threads = threads[run];
    on.rehearse = run == 4;
    (outputs.prepare(run), ...);
    op(on);
    if (run == 0) (outputs.remember(), ...);
    int64_t place = 0;
    for (const int64_t at : {outputs.difference()...}) {
      if (at >= 0)
        fail(what + ": element " + std::to_string(at) + " of output " + std::to_string(place) + " differs between 1 " +
             "thread and " + (on.rehearse ? "the functors of CUDA" : std::to_string(on.threads) + " threads"));
      ++place;
    }
  }
}

/// The same numbers on every machine (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) { return low + (high - low) * double(next() >> 11) / double(1ull << 53); }
  int64_t below(int64_t n) { return int64_t(next() % uint64_t(n)); }

 private:
  uint64_t state_;
};

template <class T> T number(double x) {
  if constexpr (sizeof(T) == 2) return T::from(float(x));
  else return T(x);
}

/// Numbers in [low, high); about one in `every` is one that arithmetic does not expect.
template <class T, int N> void randomize(const Array<T, N> &array, Random &random, double low, double high, int every) {
  const double odd[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e-40, -1e30, 3e38};
  for (T &x : array) x = number<T>(random.below(every) == 0 ? odd[random.below(8)] : random.uniform(low, high));
}

/// f of a value of each type of geometry, or of features.
template <class Fn> void for_each_geometry(const Fn &f) {
  f(float());
  f(double());
}
template <class Fn> void for_each_feature(const Fn &f) {
  f(Half());
  f(BFloat16());
  f(float());
  f(double());
}
template <class T> const char *name_of() {
  if constexpr (sizeof(T) == 8) return "float64";
  else if constexpr (sizeof(T) == 4) return "float32";
  else return std::is_same_v<T, Half> ? "float16" : "bfloat16";
}
