# rv_unit_test(NAME SOURCES file... USES layer...) builds a Criterion test and hands it to CTest.
find_path(CRITERION_INCLUDE criterion/criterion.h REQUIRED)
find_library(CRITERION_LIB criterion REQUIRED)
function(rv_unit_test name)
  cmake_parse_arguments(T "" "" "SOURCES;USES" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_include_directories(${name} SYSTEM PRIVATE ${CRITERION_INCLUDE})
  target_link_libraries(${name} PRIVATE ${T_USES} rv_flags ${CRITERION_LIB})
  # Criterion's macros declare functions without prototypes and shadow names.
  target_compile_options(${name} PRIVATE -Wno-missing-prototypes -Wno-shadow -Wno-strict-prototypes)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 600 LABELS unit)
endfunction()
