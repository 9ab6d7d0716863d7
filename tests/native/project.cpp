#include "scene.hpp"

namespace {

template <class T> void run(const Size &s) {
  const Scene<T> scene(s);
  const std::string how = std::string(name_of<T>()) + ", " + text(s);
  Array<double, 3> inverse(s.views, 3, 4);
  same_bits(
      "camera_from_world " + how, [&](const Exec &on) { camera_from_world<T>(on, scene.world_from_camera, inverse); },
      inverse);

  Array<T, 3> uvz(s.views, s.n, 3);
  same_bits(
      "project " + how,
      [&](const Exec &on) { project<T>(on, scene.points, scene.camera_from_world, scene.intrinsics, uvz); }, uvz);

  Random random(1);
  Array<T, 3> grad(s.views, s.n, 3);
  randomize(grad, random, -1, 1, 100);
  Array<T, 2> out(s.n, 3);
  same_bits(
      "project_grad_points " + how,
      [&](const Exec &on) {
        project_grad_points<T>(on, scene.points, scene.camera_from_world, scene.intrinsics, grad, out);
      },
      out);

  Array<double, 3> partial(s.views, (s.n + kGradBlock - 1) / kGradBlock, 16);
  Array<T, 2> out_camera(s.views, 16);
  same_bits(
      "project_grad_camera " + how,
      [&](const Exec &on) {
        project_grad_camera<T>(on, scene.points, scene.camera_from_world, scene.intrinsics, grad, partial, out_camera);
      },
      partial, out_camera);
}

}  // namespace

void drive_project() {
  for_each_geometry([](auto type) {
    for (const Size &s : kSizes) run<decltype(type)>(s);
    run<decltype(type)>({kGradBlock + 10, 2, 24, 32});
  });
}
