// back_project, voxelize, scatter, kernel_map, cluster and superpoints: images to clouds, clouds to voxels and
// segments.

#include "bind/tensor.hpp"
#include "ops.hpp"

namespace {

constexpr auto kNoGil = py::call_guard<py::gil_scoped_release>();

template <class T, class D>
DepthImages<T, D> images_of(const Array &depth, const Array &pose, const Array &intrinsics, double scale) {
  return {depth.view<const D, 3>(), pose.view<const T, 3>(), intrinsics.view<const T, 2>(), scale};
}

/// f(T(), images): depth images in the geometry's type T, which the intrinsics have.
template <class Fn>
void visit_images(const Array &depth, const Array &pose, const Array &intrinsics, double scale, const Fn &f) {
  visit_geometry(intrinsics.dtype, [&](auto type) {
    using T = decltype(type);
    if (depth.dtype == DType::u16) f(type, images_of<T, uint16_t>(depth, pose, intrinsics, scale));
    else f(type, images_of<T, T>(depth, pose, intrinsics, scale));
  });
}

template <class T>
VoxelGrid<T> grid_of(const Array &points, const Array &batch, const Array &origin, const std::array<double, 3> &size) {
  return {points.view<const T, 2>(),
          batch.view<const int64_t, 1>(),
          origin.view<const T, 1>(),
          {size[0], size[1], size[2]}};
}

/// f of a value of the type of the keys.
template <class Fn> void visit_keys(const Array &key, const Fn &f) {
  if (key.dtype == DType::i32) f(int32_t());
  else f(int64_t());
}

BlockPairs pairs_of(const Array &source, const Array &target, const Array &ptr) {
  return {source.view<const int32_t, 1>(), target.view<const int32_t, 1>(), ptr.view<const int64_t, 1>()};
}

Segments segments_of(const Array &order, const Array &ptr) {
  return {order.view<const int64_t, 1>(), ptr.view<const int64_t, 1>()};
}

void bind_back_project(py::module_ &m) {
  m.def(
      "back_project_count",
      [](const Exec &on, const Array &depth, const Array &pose, const Array &k, double scale, const Array &count) {
        visit_images(depth, pose, k, scale,
                     [&](auto, const auto &images) { back_project_count(on, images, count.view<int64_t, 2>()); });
      },
      kNoGil);
  m.def(
      "back_project_fill",
      [](const Exec &on, const Array &depth, const Array &pose, const Array &k, double scale, const Array &end,
         const Array &points, const Array &pixel) {
        visit_images(depth, pose, k, scale, [&](auto type, const auto &images) {
          back_project_fill(on, images, end.view<const int64_t, 2>(), points.view<decltype(type), 2>(),
                            pixel.view<int32_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "back_project_pixels",
      [](const Exec &on, const Array &depth, const Array &pose, const Array &k, double scale, const Array &flat,
         const Array &points, const Array &pixel, const Array &valid) {
        visit_images(depth, pose, k, scale, [&](auto type, const auto &images) {
          back_project_pixels(on, images, flat.view<const int64_t, 1>(), points.view<decltype(type), 2>(),
                              pixel.view<int32_t, 1>(), valid.view<uint8_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "back_project_grad",
      [](const Exec &on, const Array &depth, const Array &pose, const Array &k, double scale, const Array &flat,
         const Array &row, const Array &ptr, const Array &grad, const Array &out_depth, const Array &partial,
         const Array &out_camera) {
        visit_images(depth, pose, k, scale, [&](auto type, const auto &images) {
          using T = decltype(type);
          back_project_grad(on, images, flat.view<const int64_t, 1>(), row.view<const int64_t, 1>(),
                            ptr.view<const int64_t, 1>(), grad.view<const T, 2>(), out_depth.view<T, 3>(),
                            partial.view<double, 3>(), out_camera.view<T, 2>());
        });
      },
      kNoGil);
}

void bind_voxelize(py::module_ &m) {
  m.def(
      "sort_keys",
      [](const Exec &on, const Array &key, int bits, const Array &scratch, const Array &sorted, const Array &order) {
        visit_keys(key, [&](auto type) {
          using K = decltype(type);
          sort_keys(on, key.view<const K, 1>(), bits, scratch.view<int64_t, 1>(), sorted.view<K, 1>(),
                    order.view<int64_t, 1>());
        });
      },
      kNoGil);
  m.def("voxelize_blocks", voxelize_blocks);
  m.attr("LAST_BATCH") = kLastBatch;
  m.def(
      "voxelize_box",
      [](const Exec &on, const Array &points, const Array &batch, const Array &origin,
         const std::array<double, 3> &size, const Array &box) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          voxelize_box(on, grid_of<T>(points, batch, origin, size), box.view<T, 2>());
        });
      },
      kNoGil);
  m.def(
      "voxelize_extent",
      [](const Exec &on, const Array &points, const Array &batch, const Array &origin,
         const std::array<double, 3> &size, const Array &box, const Array &batches, const Array &extent) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          voxelize_extent(on, grid_of<T>(points, batch, origin, size), box.view<const T, 1>(),
                          batches.view<const int64_t, 1>(), extent.view<int64_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "voxelize_keys",
      [](const Exec &on, const Array &points, const Array &batch, const Array &origin,
         const std::array<double, 3> &size, const Array &extent, int axis, const Array &key) {
        visit_geometry(points.dtype, [&](auto type) {
          const auto grid = grid_of<decltype(type)>(points, batch, origin, size);
          visit_keys(key, [&](auto k) {
            voxelize_keys(on, grid, extent.view<const int64_t, 1>(), axis, key.view<decltype(k), 1>());
          });
        });
      },
      kNoGil);
  m.def(
      "voxelize_count",
      [](const Exec &on, const Array &key, const Array &valid, const Array &count) {
        visit_keys(key, [&](auto k) {
          voxelize_count(on, key.view<const decltype(k), 1>(), valid.view<const int64_t, 1>(),
                         count.view<int64_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "voxelize_fill",
      [](const Exec &on, const Array &points, const Array &batch, const Array &origin,
         const std::array<double, 3> &size, const Array &key, const Array &order, const Array &valid, const Array &end,
         const Array &coords, const Array &inverse, const Array &ptr) {
        visit_geometry(points.dtype, [&](auto type) {
          const auto grid = grid_of<decltype(type)>(points, batch, origin, size);
          visit_keys(key, [&](auto k) {
            voxelize_fill(on, grid, key.view<const decltype(k), 1>(), order.view<const int64_t, 1>(),
                          valid.view<const int64_t, 1>(), end.view<const int64_t, 1>(), coords.view<int32_t, 2>(),
                          inverse.view<int64_t, 1>(), ptr.view<int64_t, 1>());
          });
        });
      },
      kNoGil);
}

void bind_scatter(py::module_ &m) {
  m.def(
      "scatter_sum",
      [](const Exec &on, const Array &rows, const Array &order, const Array &ptr, bool mean, const Array &out) {
        visit_features(rows.dtype, [&](auto feature) {
          using F = decltype(feature);
          scatter_sum(on, rows.view<const F, 2>(), segments_of(order, ptr), mean, out.view<F, 2>());
        });
      },
      kNoGil);
  m.def(
      "add_rows",
      [](const Exec &on, const Array &rows, const Array &row, const Array &out) {
        visit_features(rows.dtype, [&](auto feature) {
          using F = decltype(feature);
          add_rows(on, rows.view<const F, 2>(), row.view<const int32_t, 1>(), out.view<acc_t<F>, 2>());
        });
      },
      kNoGil);
  m.attr("CONVOLVE_BLOCK") = kConvolveBlock;
  m.attr("CONVOLVE_PANEL") = kConvolvePanel;
  m.def(
      "convolve",
      [](const Exec &on, const Array &rows, const Array &source, const Array &target, const Array &ptr,
         const Array &weight, bool turned, const Array &packed, const Array &out) {
        visit_geometry(rows.dtype, [&](auto type) {
          using T = decltype(type);
          convolve(on, rows.view<const T, 2>(), pairs_of(source, target, ptr), weight.view<const T, 3>(), turned,
                   packed.view<T, 4>(), out.view<T, 2>());
        });
      },
      kNoGil);
  m.def(
      "convolve_grad",
      [](const Exec &on, const Array &rows, const Array &grad, const Array &source, const Array &target,
         const Array &ptr, const Array &out) {
        visit_geometry(rows.dtype, [&](auto type) {
          using T = decltype(type);
          convolve_grad(on, rows.view<const T, 2>(), grad.view<const T, 2>(), pairs_of(source, target, ptr),
                        out.view<T, 3>());
        });
      },
      kNoGil);
  m.def(
      "scatter_extreme",
      [](const Exec &on, const Array &rows, const Array &order, const Array &ptr, bool maximum, const Array &out,
         const Array &arg) {
        visit_features(rows.dtype, [&](auto feature) {
          using F = decltype(feature);
          scatter_extreme(on, rows.view<const F, 2>(), segments_of(order, ptr), maximum, out.view<F, 2>(),
                          arg.view<int64_t, 2>());
        });
      },
      kNoGil);
  m.def(
      "scatter_grad",
      [](const Exec &on, const Array &grad, const Array &inverse, const Array &ptr, bool mean, const Array &arg,
         const Array &out) {
        visit_features(grad.dtype, [&](auto feature) {
          using F = decltype(feature);
          scatter_grad(on, grad.view<const F, 2>(), inverse.view<const int64_t, 1>(), ptr.view<const int64_t, 1>(),
                       mean, arg.view<const int64_t, 2>(), out.view<F, 2>());
        });
      },
      kNoGil);
  m.def(
      "scatter_mode",
      [](const Exec &on, const Array &labels, const Array &order, const Array &ptr, const Array &scratch,
         const Array &out) {
        scatter_mode(on, labels.view<const int64_t, 1>(), segments_of(order, ptr), scratch.view<int64_t, 1>(),
                     out.view<int64_t, 1>());
      },
      kNoGil);
}

void bind_kernel_map(py::module_ &m) {
  using Three = std::array<int64_t, 3>;
  py::class_<KernelRule>(m, "KernelRule")
      .def(py::init(
          [](const Three &size, const Three &stride, const Three &padding, const Three &dilation, const Three &shape) {
            KernelRule rule;
            for (size_t d = 0; d < 3; ++d) {
              rule.size[d] = size[d], rule.stride[d] = stride[d], rule.padding[d] = padding[d];
              rule.dilation[d] = dilation[d], rule.shape[d] = shape[d];
            }
            return rule;
          }));
  m.def("kernel_map_blocks", kernel_map_blocks);
  m.def(
      "kernel_map_extent",
      [](const Exec &on, const Array &coords, const Array &extent) {
        kernel_map_extent(on, coords.view<const int32_t, 2>(), extent.view<int64_t, 2>());
      },
      kNoGil);
  m.def(
      "kernel_map_outputs",
      [](const Exec &on, const Array &coords, const KernelRule &rule, const Array &end, const Array &count,
         const Array &out) {
        kernel_map_outputs(on, coords.view<const int32_t, 2>(), rule, end.view<const int64_t, 1>(),
                           count.view<int64_t, 1>(), out.view<int32_t, 2>());
      },
      kNoGil);
  m.def(
      "kernel_map_pairs",
      [](const Exec &on, const Array &in, const Array &in_row, const Array &out, const Array &out_row,
         const KernelRule &rule, const Array &next, const Array &first, const Array &ptr, const Array &input,
         const Array &output) {
        kernel_map_pairs(on, {in.view<const int32_t, 2>(), in_row.view<const int64_t, 1>()},
                         {out.view<const int32_t, 2>(), out_row.view<const int64_t, 1>()}, rule,
                         {next.view<int64_t, 2>(), first.view<int32_t, 2>(), ptr.view<const int64_t, 1>(),
                          input.view<int32_t, 1>(), output.view<int32_t, 1>()});
      },
      kNoGil);
}

void bind_cluster(py::module_ &m) {
  m.def(
      "cluster_cells",
      [](const Exec &on, const Array &coords, const Array &ptr, const Array &points, double radius, const Array &root) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          const Cells<T> cells{coords.view<const int32_t, 2>(), ptr.view<const int64_t, 1>(),
                               points.view<const T, 2>()};
          cluster_cells(on, cells, radius, root.view<int64_t, 1>());
        });
      },
      kNoGil);
}

void bind_superpoints(py::module_ &m) {
  m.def(
      "superpoints_weights",
      [](const Exec &on, const Array &points, const Array &normals, const Array &edges, const Array &weight) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          superpoints_weights(on, points.view<const T, 2>(), normals.view<const T, 2>(), edges.view<const int64_t, 2>(),
                              weight.view<T, 1>());
        });
      },
      kNoGil);
  m.def(
      "superpoints_merge",
      [](const Array &edges, const Array &sorted, double k, int64_t min_size, const Array &order,
         const Array &threshold, const Array &size, const Array &out) {
        visit_geometry(sorted.dtype, [&](auto type) {
          using T = decltype(type);
          superpoints_merge(edges.view<const int64_t, 2>(), sorted.view<const T, 1>(), k, min_size,
                            order.view<int64_t, 1>(), threshold.view<T, 1>(), size.view<int64_t, 1>(),
                            out.view<int64_t, 1>());
        });
      },
      kNoGil);
}

}  // namespace

void bind_clouds(py::module_ &m) {
  bind_back_project(m);
  bind_voxelize(m);
  bind_scatter(m);
  bind_kernel_map(m);
  bind_cluster(m);
  bind_superpoints(m);
}
