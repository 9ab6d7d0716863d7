#pragma once
// The border to Python: what a torch tensor says of itself, read as attributes, so that nothing here links torch.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <unordered_map>

#include "core/half.hpp"
#include "core/view.hpp"

namespace py = pybind11;

enum class DType { f16, bf16, f32, f64, u8, u16, i32, i64 };

/// A dense tensor, or None (data null). Python has checked it; what is checked again here is a backstop.
struct Array {
  void *data = nullptr;
  DType dtype = DType::f32;
  int ndim = 0;
  int64_t shape[4] = {};

  template <class T, int N> View<T, N> view() const;
};

namespace detail {

template <class T> struct dtype_of;
template <> struct dtype_of<Half> {
  static constexpr DType value = DType::f16;
};
template <> struct dtype_of<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <> struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <> struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <> struct dtype_of<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <> struct dtype_of<uint16_t> {
  static constexpr DType value = DType::u16;
};
template <> struct dtype_of<int32_t> {
  static constexpr DType value = DType::i32;
};
template <> struct dtype_of<uint32_t> {
  static constexpr DType value = DType::i32;
};
template <> struct dtype_of<int64_t> {
  static constexpr DType value = DType::i64;
};

/// torch's dtypes are singletons: their names are read once, then their addresses are enough.
inline DType read_dtype(py::handle dtype) {
  static std::unordered_map<PyObject *, DType> known;
  const auto found = known.find(dtype.ptr());
  if (found != known.end()) return found->second;
  static const std::unordered_map<std::string, DType> names{
      {"torch.float16", DType::f16}, {"torch.bfloat16", DType::bf16}, {"torch.float32", DType::f32},
      {"torch.float64", DType::f64}, {"torch.bool", DType::u8},       {"torch.uint16", DType::u16},
      {"torch.int32", DType::i32},   {"torch.int64", DType::i64}};
  const std::string name = py::str(dtype);
  const auto named = names.find(name);
  if (named == names.end()) throw py::type_error("no operation of pyproj2d3d takes " + name);
  dtype.inc_ref();
  return known[dtype.ptr()] = named->second;
}

}  // namespace detail

template <class T, int N> View<T, N> Array::view() const {
  View<T, N> out;
  if (!data && ndim == 0) return out;  // None
  if (ndim != N) throw py::value_error("expected " + std::to_string(N) + " axes, got " + std::to_string(ndim));
  if (dtype != detail::dtype_of<std::remove_const_t<T>>::value)
    throw py::type_error("a tensor has an unexpected dtype");
  out.data = static_cast<T *>(data);
  for (int d = 0; d < N; ++d) out.shape[d] = shape[d];
  return out;
}

/// f(float()) or f(double()), as the dtype says.
template <class Fn> void visit_geometry(DType dtype, const Fn &f) {
  if (dtype == DType::f32) f(float());
  else if (dtype == DType::f64) f(double());
  else throw py::type_error("expected float32 or float64");
}

/// f of a value of the feature type that the dtype says.
template <class Fn> void visit_features(DType dtype, const Fn &f) {
  if (dtype == DType::f16) f(Half());
  else if (dtype == DType::bf16) f(BFloat16());
  else visit_geometry(dtype, f);
}

namespace pybind11::detail {
template <> struct type_caster<Array> {
  PYBIND11_TYPE_CASTER(Array, const_name("torch.Tensor | None"));

  bool load(handle source, bool) {
    if (source.is_none()) return true;
    if (!source.attr("is_contiguous")().cast<bool>()) throw value_error("expected a contiguous tensor");
    const tuple shape = source.attr("shape");
    if (shape.size() > 4) throw value_error("expected at most 4 axes, got " + std::to_string(shape.size()));
    value.ndim = int(shape.size());
    for (int d = 0; d < value.ndim; ++d) value.shape[d] = shape[size_t(d)].cast<int64_t>();
    value.dtype = ::detail::read_dtype(source.attr("dtype"));
    value.data = reinterpret_cast<void *>(source.attr("data_ptr")().cast<uintptr_t>());
    return true;
  }
};
}  // namespace pybind11::detail
