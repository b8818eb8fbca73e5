# The flags every target of ours is built with.
add_library(rv_flags INTERFACE)
target_compile_options(rv_flags INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual
  -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough -Wno-unused-parameter
  -fno-common -fno-strict-aliasing)
target_compile_definitions(rv_flags INTERFACE _GNU_SOURCE RV_VERSION="${PROJECT_VERSION}")
if(RV_WERROR)
  target_compile_options(rv_flags INTERFACE -Werror)
endif()
if(RV_SANITIZE)
  target_compile_options(rv_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
    -fno-omit-frame-pointer)
  target_link_options(rv_flags INTERFACE -fsanitize=address,undefined)
  target_compile_definitions(rv_flags INTERFACE RV_SANITIZED=1)
endif()
