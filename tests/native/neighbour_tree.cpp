#include "neighbours.hpp"

void drive_neighbour_tree() {
  for_each_geometry([](auto type) {
    using T = decltype(type);
    for (const int64_t n : {5000, 513, 65, 64, 8, 1, 0}) {
      const std::string how = std::string(name_of<T>()) + ", " + std::to_string(n) + " points";
      Random random(19);
      Neighbours<T> cloud(n, random);
      Array<T, 1> frame(4);
      Array<int64_t, 1> key(n);
      for (const double edge : {1e-3, 1e-9, 1e30, double(NAN)}) {
        for (int d = 0; d < 3; ++d) frame[d] = T(-2);
        frame[3] = T(edge);
        same_bits("curve_keys " + how, [&](const Exec &on) { curve_keys<T>(on, cloud.points, frame, key); }, key);
      }
      same_bits(
          "neighbour_tree " + how,
          [&](const Exec &on) { neighbour_tree<T>(on, cloud.points, cloud.order, cloud.leaves, cloud.nodes); },
          cloud.leaves, cloud.nodes);
    }
  });
}
