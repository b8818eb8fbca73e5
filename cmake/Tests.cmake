# rv_unit_test(NAME SOURCES file... LIBS target... [FILTER suite/test]): a Criterion program that CTest
# runs, all of it or what the filter selects. Exit status 77 counts as skipped.
pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion)
function(rv_unit_test name)
  cmake_parse_arguments(T "" "FILTER" "SOURCES;LIBS;USES" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE ${T_LIBS} ${T_USES} PkgConfig::CRITERION rv_flags)
  if(T_FILTER)
    list(APPEND args --filter ${T_FILTER})
  endif()
  add_test(NAME ${name} COMMAND ${name} ${args})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 LABELS unit)
endfunction()
