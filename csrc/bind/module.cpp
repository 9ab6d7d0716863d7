#include "bind/tensor.hpp"
#include "ops.hpp"

void bind_clouds(py::module_ &m);      // clouds.cpp
void bind_neighbours(py::module_ &m);  // neighbours.cpp

namespace {

using D = double;
constexpr auto kNoGil = py::call_guard<py::gil_scoped_release>();

const char *name_of(Isa isa) {
  return isa == Isa::x86_64 ? "x86-64" : isa == Isa::x86_64_v3 ? "x86-64-v3" : "x86-64-v4";
}

void set_isa_by_name(const std::string &name) {
  for (Isa isa : {Isa::x86_64, Isa::x86_64_v3, Isa::x86_64_v4})
    if (name == name_of(isa)) {
      if (!isa_available(isa)) throw py::value_error("this CPU does not have " + name);
      return set_isa(isa);
    }
  throw py::value_error("isa must be x86-64, x86-64-v3 or x86-64-v4, got " + name);
}

py::dict build_info() {
  py::dict info;
  info["cuda_version"] = P2D3D_CUDA_VERSION;
  info["cuda"] = std::string(P2D3D_CUDA_VERSION) != "";
  info["architectures"] = P2D3D_CUDA_ARCHITECTURES;
  info["compiler"] = "g++ " __VERSION__;
  return info;
}

/// The three arrays of a projection, in the type T.
template <class T> struct Views {
  View<const T, 2> points;
  View<const T, 3> camera_from_world;
  View<const T, 2> intrinsics;
  Views(const Array &p, const Array &t, const Array &k)
      : points(p.view<const T, 2>()),
        camera_from_world(t.view<const T, 3>()),
        intrinsics(k.view<const T, 2>()) {}
};

template <class U> Places<U> places_of(const Array &uv, const Array &ptr, const Array &pixel) {
  if (pixel.ndim && pixel.dtype == DType::i64) return {{}, {}, {}, pixel.view<const int64_t, 1>()};
  return {uv.view<const U, 3>(), ptr.view<const int64_t, 1>(), pixel.view<const int32_t, 1>(), {}};
}

template <class F> RowGrad<F> row_grad_of(const Array &grad, const Array &point, const Array &count, const Array &arg) {
  return {grad.view<const F, 2>(), point.view<const int32_t, 1>(), count.view<const int32_t, 1>(),
          arg.view<const int32_t, 2>()};
}

/// f(F(), U()): features as the maps say, pixels as uv says or, at matches, what features are summed in.
template <class Fn> void visit_sample(const Array &maps, const Array &uv, const Fn &f) {
  visit_features(maps.dtype, [&](auto feature) {
    using F = decltype(feature);
    if (uv.ndim == 0) f(feature, acc_t<F>());
    else visit_geometry(uv.dtype, [&](auto pixel) { f(feature, pixel); });
  });
}

void bind_project(py::module_ &m) {
  m.def(
      "camera_from_world",
      [](const Exec &on, const Array &pose, const Array &out) {
        visit_geometry(pose.dtype,
                       [&](auto t) { camera_from_world(on, pose.view<const decltype(t), 3>(), out.view<D, 3>()); });
      },
      kNoGil);
  m.def(
      "project",
      [](const Exec &on, const Array &p, const Array &t, const Array &k, const Array &uvz) {
        visit_geometry(p.dtype, [&](auto type) {
          using T = decltype(type);
          const Views<T> in(p, t, k);
          project(on, in.points, in.camera_from_world, in.intrinsics, uvz.view<T, 3>());
        });
      },
      kNoGil);
  m.def(
      "project_grad",
      [](const Exec &on, const Array &p, const Array &t, const Array &k, const Array &grad, const Array &grad_points,
         const Array &partial, const Array &grad_camera) {
        visit_geometry(p.dtype, [&](auto type) {
          using T = decltype(type);
          const Views<T> in(p, t, k);
          const auto g = grad.view<const T, 3>();
          project_grad_points(on, in.points, in.camera_from_world, in.intrinsics, g, grad_points.view<T, 2>());
          project_grad_camera(on, in.points, in.camera_from_world, in.intrinsics, g, partial.view<D, 3>(),
                              grad_camera.view<T, 2>());
        });
      },
      kNoGil);
  m.attr("GRAD_BLOCK") = kGradBlock;
}

void bind_visibility(py::module_ &m) {
  py::class_<SeenRule>(m, "SeenRule")
      .def(py::init([](int64_t height, int64_t width, int64_t border, double z_min, double z_max, double depth_scale,
                       double a, double b,
                       double c) { return SeenRule{height, width, border, z_min, z_max, depth_scale, a, b, c}; }));
  m.def(
      "visibility_test",
      [](const Exec &on, const Array &p, const Array &t, const Array &k, const Array &depth, const SeenRule &rule,
         const Array &bits, const Array &count) {
        visit_geometry(p.dtype, [&](auto type) {
          using T = decltype(type);
          const Views<T> in(p, t, k);
          const auto words = bits.view<uint32_t, 3>();
          const auto counts = count.view<int64_t, 2>();
          if (depth.dtype == DType::u16)
            visibility_test(on, in.points, in.camera_from_world, in.intrinsics, depth.view<const uint16_t, 2>(), rule,
                            words, counts);
          else
            visibility_test(on, in.points, in.camera_from_world, in.intrinsics, depth.view<const T, 2>(), rule, words,
                            counts);
        });
      },
      kNoGil);
  m.def(
      "visibility_fill",
      [](const Exec &on, const Array &p, const Array &t, const Array &k, const SeenRule &rule, const Array &bits,
         const Array &end, const Array &point, const Array &pixel) {
        visit_geometry(p.dtype, [&](auto type) {
          using T = decltype(type);
          const Views<T> in(p, t, k);
          visibility_fill(on, in.points, in.camera_from_world, in.intrinsics, rule, bits.view<const uint32_t, 3>(),
                          end.view<const int64_t, 2>(), point.view<int32_t, 1>(), pixel.view<int32_t, 1>());
        });
      },
      kNoGil);
  m.attr("TILE") = kTile;
  m.def(
      "first_bad_match",
      [](const Exec &on, const Array &ptr, const Array &point, const Array &pixel, int64_t n_points, int64_t n_pixels) {
        return first_bad_match(on, ptr.view<const int64_t, 1>(), point.view<const int32_t, 1>(),
                               pixel.view<const int32_t, 1>(), n_points, n_pixels);
      },
      kNoGil);
}

void bind_zbuffer(py::module_ &m) {
  py::class_<ZbufferGrid>(m, "ZbufferGrid")
      .def(py::init([](int64_t height, int64_t width, int64_t radius, int64_t stride) {
        return ZbufferGrid{height, width, radius, stride};
      }));
  m.def(
      "zbuffer",
      [](const Exec &on, const Array &uvz, const Array &ptr, const Array &point, const ZbufferGrid &grid,
         const Array &index, const Array &depth) {
        visit_geometry(uvz.dtype, [&](auto type) {
          using T = decltype(type);
          zbuffer(on, uvz.view<const T, 3>(), ptr.view<const int64_t, 1>(), point.view<const int32_t, 1>(), grid,
                  index.view<int64_t, 3>(), depth.view<T, 3>());
        });
      },
      kNoGil);
  m.def(
      "zbuffer_points",
      [](const Exec &on, const Array &p, const Array &t, const Array &k, const ZbufferGrid &grid, const Array &index,
         const Array &depth) {
        visit_geometry(p.dtype, [&](auto type) {
          using T = decltype(type);
          const Views<T> in(p, t, k);
          zbuffer_points(on, in.points, in.camera_from_world, in.intrinsics, grid, index.view<int64_t, 3>(),
                         depth.view<T, 3>());
        });
      },
      kNoGil);
  m.def(
      "zbuffer_grad",
      [](const Exec &on, const Array &uvz, const ZbufferGrid &grid, const Array &index, const Array &grad,
         const Array &out) {
        visit_geometry(uvz.dtype, [&](auto type) {
          using T = decltype(type);
          zbuffer_grad(on, uvz.view<const T, 3>(), grid, index.view<const int64_t, 3>(), grad.view<const T, 3>(),
                       out.view<T, 3>());
        });
      },
      kNoGil);
}

void bind_splat(py::module_ &m) {
  m.def(
      "take_rows",
      [](const Exec &on, const Array &rows, const Array &index, const Array &out) {
        visit_features(rows.dtype, [&](auto feature) {
          using F = decltype(feature);
          take_rows(on, rows.view<const F, 2>(), index.view<const int64_t, 1>(), out.view<F, 2>());
        });
      },
      kNoGil);
  m.def(
      "sum_runs",
      [](const Exec &on, const Array &rows, const Array &row, const Array &key, const Array &weight, bool mean,
         const Array &count, const Array &out) {
        visit_features(rows.dtype, [&](auto feature) {
          using F = decltype(feature);
          sum_runs(on, rows.view<const F, 2>(), row.view<const int64_t, 1>(), key.view<const int64_t, 1>(),
                   weight.view<const acc_t<F>, 1>(), mean, count.view<int64_t, 1>(), out.view<F, 2>());
        });
      },
      kNoGil);
}

void bind_sample(py::module_ &m) {
  py::class_<MapRule>(m, "MapRule").def(py::init([](int64_t height, int64_t width, bool bilinear, bool align_corners) {
    return MapRule{height, width, bilinear, align_corners};
  }));
  m.def(
      "sample",
      [](const Exec &on, const Array &maps, const Array &uv, const Array &ptr, const Array &pixel, const MapRule &rule,
         const Array &norm, const Array &out) {
        visit_sample(maps, uv, [&](auto feature, auto place) {
          using F = decltype(feature);
          using U = decltype(place);
          sample(on, maps.view<const F, 4>(), places_of<U>(uv, ptr, pixel), rule, norm.view<acc_t<F>, 1>(),
                 out.view<F, 2>());
        });
      },
      kNoGil);
  m.def(
      "sample_prepare",
      [](const Exec &on, const Array &maps, const Array &uv, const Array &ptr, const Array &pixel, const MapRule &rule,
         const Array &grad, const Array &point, const Array &count, const Array &arg, const Array &cell,
         const Array &weight, const Array &scale, const Array &pull) {
        visit_sample(maps, uv, [&](auto feature, auto place) {
          using F = decltype(feature);
          using U = decltype(place);
          sample_prepare(on, maps.view<const F, 4>(), places_of<U>(uv, ptr, pixel), rule,
                         row_grad_of<F>(grad, point, count, arg), cell.view<int64_t, 1>(), weight.view<acc_t<F>, 2>(),
                         scale.view<acc_t<F>, 1>(), pull.view<acc_t<F>, 1>());
        });
      },
      kNoGil);
  m.def(
      "sample_grad_maps",
      [](const Exec &on, const Array &maps, bool bilinear, const Array &grad, const Array &point, const Array &count,
         const Array &arg, const Array &weight, const Array &scale, const Array &pull, const Array &order,
         const Array &start, const Array &partial, const Array &out) {
        visit_features(maps.dtype, [&](auto feature) {
          using F = decltype(feature);
          using A = acc_t<F>;
          sample_grad_maps(on, maps.view<const F, 4>(), bilinear, row_grad_of<F>(grad, point, count, arg),
                           weight.view<const A, 2>(), scale.view<const A, 1>(), pull.view<const A, 1>(),
                           order.view<const int64_t, 1>(), start.view<const int64_t, 1>(), partial.view<A, 3>(),
                           out.view<F, 4>());
        });
      },
      kNoGil);
  m.def(
      "sample_grad_uv",
      [](const Exec &on, const Array &maps, const Array &uv, const MapRule &rule, const Array &grad, const Array &scale,
         const Array &pull, const Array &out) {
        visit_sample(maps, uv, [&](auto feature, auto place) {
          using F = decltype(feature);
          using U = decltype(place);
          using A = acc_t<F>;
          sample_grad_uv(on, maps.view<const F, 4>(), places_of<U>(uv, Array(), Array()), rule,
                         row_grad_of<F>(grad, Array(), Array(), Array()), scale.view<const A, 1>(),
                         pull.view<const A, 1>(), out.view<U, 3>());
        });
      },
      kNoGil);
}

void bind_fuse_views(py::module_ &m) {
  m.def(
      "fuse_views",
      [](const Exec &on, const Array &maps, const Array &ptr, const Array &point, const Array &pixel,
         const MapRule &rule, const Array &norm, bool maximum, bool finish, const Array &fused, const Array &count,
         const Array &arg) {
        visit_features(maps.dtype, [&](auto feature) {
          using F = decltype(feature);
          fuse_views(on, maps.view<const F, 4>(), places_of<acc_t<F>>(Array(), ptr, pixel),
                     point.view<const int32_t, 1>(), rule, norm.view<acc_t<F>, 1>(), maximum, finish,
                     fused.view<acc_t<F>, 2>(), count.view<int32_t, 1>(), arg.view<int32_t, 2>());
        });
      },
      kNoGil);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "The native core of pyproj2d3d: plain arrays in, plain arrays out. Called by pyproj2d3d.ops, which checks.";
  py::class_<Exec>(m, "Exec").def(py::init([](int device, uintptr_t stream, int threads, bool rehearse) {
    return Exec{device, reinterpret_cast<void *>(stream), threads, rehearse};
  }));
  m.def("build_info", build_info);
  m.def("device_count", device_count);
  m.def("device_name", device_name);
  m.def("advise_huge_pages", advise_huge_pages);
  m.def("isa", [] { return name_of(active_isa()); });
  m.def("set_isa", set_isa_by_name);
  bind_project(m);
  bind_visibility(m);
  bind_zbuffer(m);
  bind_splat(m);
  bind_sample(m);
  bind_fuse_views(m);
  bind_clouds(m);
  bind_neighbours(m);
}
