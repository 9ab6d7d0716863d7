#include <array>
#include <map>
#include <vector>

#include "driver.hpp"
#include "ops.hpp"

namespace {

/// Points of a few cells each, between which some are near enough and some are not.
template <class T> void run(int64_t n, int64_t side, int64_t lowest, const std::string &how) {
  Random random(19);
  const double edge = 0.57;  // of a cell, for a radius of 1
  std::map<std::array<int64_t, 4>, std::vector<std::array<double, 3>>> cells;
  for (int64_t i = 0; i < n; ++i) {
    std::array<int64_t, 4> cell{random.below(3)};
    std::array<double, 3> point{};
    for (size_t d = 0; d < 3; ++d) {
      cell[d + 1] = lowest + random.below(side);
      point[d] = edge * (double(cell[d + 1]) + random.uniform(0, 1));
    }
    cells[cell].push_back(point);
  }
  Array<int32_t, 2> coords(int64_t(cells.size()), 4);
  Array<int64_t, 1> ptr(int64_t(cells.size()) + 1), root(int64_t(cells.size()));
  Array<T, 2> points(n, 3);
  int64_t c = 0, p = 0;
  for (const auto &[cell, of_cell] : cells) {
    ptr[c] = p;
    for (size_t d = 0; d < 4; ++d) coords[4 * c + int64_t(d)] = int32_t(cell[d]);
    for (const auto &point : of_cell) {
      for (size_t d = 0; d < 3; ++d) points[3 * p + int64_t(d)] = T(point[d]);
      ++p;
    }
    ++c;
  }
  ptr[c] = p;
  const Cells<T> of{coords, ptr, points};
  same_bits("cluster_cells " + how, [&](const Exec &on) { cluster_cells<T>(on, of, 1.0, root); }, root);
}

}  // namespace

void drive_cluster() {
  for_each_geometry([](auto type) {
    using T = decltype(type);
    const std::string name = name_of<T>();
    run<T>(0, 1, 0, name + ", no points");
    run<T>(1, 1, 0, name + ", one point");
    run<T>(9000, 4, -2, name + ", few cells");
    run<T>(9000, 40, -20, name + ", many cells");
    run<T>(200, 4, INT32_MAX - 3, name + ", the last cells there are");
    run<T>(200, 4, INT32_MIN, name + ", the first cells there are");
  });
}
