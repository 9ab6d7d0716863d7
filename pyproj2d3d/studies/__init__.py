"""Does what a paper claims hold on synthetic rooms? One file for each paper; ``pyproj2d3d reproduce`` runs them."""
