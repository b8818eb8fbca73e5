# One target a layer. rv_layer(NAME USES layer... SOURCES file...) gives a layer an include path that
# holds only itself and the layers it may use, so that a forbidden #include does not compile.
#
#   base <- trace-format     base <- vmm     record, replay: vmm + trace-format     tools: everything
#
# Sources include each other as "<layer>/<path>.h". Each layer's headers are reached through a
# directory of links (build/layers/<layer>/), one a layer, instead of the source root.
function(rv_layer name)
  cmake_parse_arguments(L "" "DIR" "USES;SOURCES;LIBS" ${ARGN})
  add_library(${name} STATIC ${L_SOURCES})
  set(view ${CMAKE_BINARY_DIR}/layers/${name})
  get_filename_component(parent ${L_DIR} DIRECTORY)
  file(MAKE_DIRECTORY ${view}/${parent})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${L_DIR} ${view}/${L_DIR} SYMBOLIC)
  target_include_directories(${name} PUBLIC ${view})
  target_link_libraries(${name} PUBLIC ${L_USES} ${L_LIBS} PRIVATE rv_flags)
endfunction()
