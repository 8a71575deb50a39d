# A toolchain: the Clang of Zig, which compiles for other systems than its own and for an old glibc.
#
#   pip install ziglang
#   cmake -S . -B build/arm -DCMAKE_TOOLCHAIN_FILE=cmake/zig.cmake -DSIGHTLINE_TARGET=aarch64-linux-gnu.2.28
#
# SIGHTLINE_TARGET is Zig's name of a system; SIGHTLINE_ZIG the program, where Python does not know it.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SIGHTLINE_TARGET SIGHTLINE_ZIG)

if(NOT SIGHTLINE_TARGET MATCHES "^(x86_64|aarch64)-(linux|windows|macos)([.-].*)?$")
  message(FATAL_ERROR "SIGHTLINE_TARGET is '${SIGHTLINE_TARGET}', expected as in x86_64-linux-gnu.2.28")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
set(systems_linux Linux)
set(systems_windows Windows)
set(systems_macos Darwin)
set(CMAKE_SYSTEM_NAME ${systems_${CMAKE_MATCH_2}})

if(NOT SIGHTLINE_ZIG)
  # Whoever builds a package says which Python does.
  if(NOT Python_EXECUTABLE)
    find_program(Python_EXECUTABLE NAMES python3 python REQUIRED)
  endif()
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'), end='')"
    OUTPUT_VARIABLE SIGHTLINE_ZIG COMMAND_ERROR_IS_FATAL ANY)
endif()
# Trying to link would make a whole C++ library, for every system.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
# Always with a target: without one Zig compiles for this very processor.
set(CMAKE_CXX_COMPILER ${SIGHTLINE_ZIG} c++ -target ${SIGHTLINE_TARGET})

# Without the symbols of the inside: an install strips them of what this machine's own strip knows.
if(NOT CMAKE_SYSTEM_NAME STREQUAL CMAKE_HOST_SYSTEM_NAME OR NOT CMAKE_SYSTEM_PROCESSOR STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
  set(CMAKE_MODULE_LINKER_FLAGS_INIT -s)
endif()

if(CMAKE_SYSTEM_NAME STREQUAL "Darwin")
  # There is no Xcode here: Zig brings what the system's libraries export.
  set(CMAKE_OSX_SYSROOT "")
  set(CMAKE_OSX_DEPLOYMENT_TARGET "")
  set(CMAKE_INSTALL_NAME_TOOL ${CMAKE_COMMAND} -E true)
  set(CMAKE_SKIP_RPATH ON)
endif()
