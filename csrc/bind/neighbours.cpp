// farthest_point_sample, ball_query and three_nn: which points of a cloud are far from or near to others.

#include "bind/tensor.hpp"
#include "ops.hpp"

namespace {

constexpr auto kNoGil = py::call_guard<py::gil_scoped_release>();

template <class T> NeighbourTree<T> tree_of(const Array &leaves, const Array &nodes, const Array &order) {
  return {leaves.view<const T, 3>(), nodes.view<const T, 3>(), order.view<const int64_t, 1>()};
}

void bind_farthest_point_sample(py::module_ &m) {
  m.def("farthest_point_sample_bucket", farthest_point_sample_bucket);
  m.def(
      "farthest_point_sample",
      [](const Exec &on, const Array &points, const Array &ptr, int64_t start, int64_t n, const Array &distance,
         const Array &out) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          farthest_point_sample(on, points.view<const T, 2>(), ptr.view<const int64_t, 1>(), start, n,
                                distance.view<T, 1>(), out.view<int64_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "farthest_point_sample_buckets",
      [](const Exec &on, const Array &points, const Array &ptr, const Array &order, int64_t start, int64_t n,
         int64_t size, const Array &sorted, const Array &point, const Array &bucket, const Array &farthest,
         const Array &out) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          farthest_point_sample_buckets(on, points.view<const T, 2>(), ptr.view<const int64_t, 1>(),
                                        order.view<const int64_t, 1>(), start, n, size, sorted.view<T, 2>(),
                                        point.view<int32_t, 1>(), bucket.view<T, 2>(), farthest.view<int32_t, 1>(),
                                        out.view<int64_t, 1>());
        });
      },
      kNoGil);
}

void bind_neighbour_tree(py::module_ &m) {
  m.attr("BRANCH") = kBranch;
  m.attr("CURVE_BITS") = kCurveBits;
  m.def("neighbour_tree_nodes", neighbour_tree_nodes);
  m.def(
      "curve_keys",
      [](const Exec &on, const Array &points, const Array &frame, const Array &key) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          curve_keys(on, points.view<const T, 2>(), frame.view<const T, 1>(), key.view<int64_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "neighbour_tree",
      [](const Exec &on, const Array &points, const Array &order, const Array &leaves, const Array &nodes) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          neighbour_tree(on, points.view<const T, 2>(), order.view<const int64_t, 1>(), leaves.view<T, 3>(),
                         nodes.view<T, 3>());
        });
      },
      kNoGil);
}

void bind_queries(py::module_ &m) {
  m.def(
      "ball_query",
      [](const Exec &on, const Array &leaves, const Array &nodes, const Array &order, const Array &queries,
         const Array &turn, double radius, const Array &index, const Array &count) {
        visit_geometry(queries.dtype, [&](auto type) {
          using T = decltype(type);
          ball_query(on, tree_of<T>(leaves, nodes, order), queries.view<const T, 2>(), turn.view<const int64_t, 1>(),
                     radius, index.view<int64_t, 2>(), count.view<int64_t, 1>());
        });
      },
      kNoGil);
  m.def(
      "three_nn",
      [](const Exec &on, const Array &leaves, const Array &nodes, const Array &order, const Array &queries,
         const Array &turn, const Array &distance, const Array &index) {
        visit_geometry(queries.dtype, [&](auto type) {
          using T = decltype(type);
          three_nn(on, tree_of<T>(leaves, nodes, order), queries.view<const T, 2>(), turn.view<const int64_t, 1>(),
                   distance.view<T, 2>(), index.view<int64_t, 2>());
        });
      },
      kNoGil);
  m.def(
      "three_nn_grad",
      [](const Exec &on, const Array &points, const Array &queries, const Array &index, const Array &grad,
         const Array &pull, const Array &out) {
        visit_geometry(points.dtype, [&](auto type) {
          using T = decltype(type);
          three_nn_grad(on, points.view<const T, 2>(), queries.view<const T, 2>(), index.view<const int64_t, 2>(),
                        grad.view<const T, 2>(), pull.view<T, 2>(), out.view<T, 2>());
        });
      },
      kNoGil);
}

}  // namespace

void bind_neighbours(py::module_ &m) {
  bind_farthest_point_sample(m);
  bind_neighbour_tree(m);
  bind_queries(m);
}
