// Runs every operation of csrc/ops.hpp on small and odd inputs: scripts/sanitize.sh builds this with sanitizers, which
// then stop at the first wrong access, undefined arithmetic or race. No Python and no torch.

#include <cstdio>

void drive_project();
void drive_visibility();
void drive_matches();
void drive_zbuffer();
void drive_splat();
void drive_sample();
void drive_fuse_views();
void drive_back_project();
void drive_sort_keys();
void drive_voxelize();
void drive_scatter();
void drive_convolve();
void drive_cluster();
void drive_superpoints();
void drive_kernel_map();
void drive_farthest_point_sample();
void drive_neighbour_tree();
void drive_ball_query();
void drive_three_nn();

int main() {
  const struct {
    const char *name;
    void (*drive)();
  } drivers[] = {
      {"project", drive_project},
      {"visibility", drive_visibility},
      {"matches", drive_matches},
      {"zbuffer", drive_zbuffer},
      {"splat", drive_splat},
      {"sample", drive_sample},
      {"fuse_views", drive_fuse_views},
      {"back_project", drive_back_project},
      {"sort_keys", drive_sort_keys},
      {"voxelize", drive_voxelize},
      {"scatter", drive_scatter},
      {"convolve", drive_convolve},
      {"superpoints", drive_superpoints},
      {"kernel_map", drive_kernel_map},
      {"farthest_point_sample", drive_farthest_point_sample},
      {"neighbour_tree", drive_neighbour_tree},
      {"ball_query", drive_ball_query},
      {"three_nn", drive_three_nn},
      {"cluster", drive_cluster},
  };
  for (const auto &driver : drivers) {
    std::printf("%s\n", driver.name);
    std::fflush(stdout);
    driver.drive();
  }
}
