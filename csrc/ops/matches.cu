#include "core/atomic.hpp"
#include "core/for_each.hpp"
#include "core/pinhole.hpp"
#include "ops.hpp"

namespace {

struct CheckMatch {  // one match
  View<const int64_t, 1> ptr;
  View<const int32_t, 1> point, pixel;
  int64_t n_points, n_pixels;
  uint64_t *first_bad;

  P2D3D_HD void operator()(int64_t, int64_t i) const {
    bool good = point(i) >= 0 && point(i) < n_points && pixel(i) >= 0 && pixel(i) < n_pixels;
    if (i > 0 && point(i) <= point(i - 1)) good = good && ptr(view_of(ptr, i)) == i;
    if (!good) atomic_min(first_bad, uint64_t(i));
  }
};

}  // namespace

int64_t first_bad_match(const Exec &on, View<const int64_t, 1> ptr, View<const int32_t, 1> point,
                        View<const int32_t, 1> pixel, int64_t n_points, int64_t n_pixels) {
  uint64_t first_bad = uint64_t(point.shape[0]);
  for_each(on, 1, point.shape[0], CheckMatch{ptr, point, pixel, n_points, n_pixels, &first_bad});
  return int64_t(first_bad);
}
