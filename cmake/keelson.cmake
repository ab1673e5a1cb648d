# Build helpers. Every folder declares its targets with these functions, so that
# flags, the precompiled header and test labels are decided in one place.
#
#   keelson_library(NAME SRCS a.cc ... DEPS x y ... [TEST]) -> target keelson_NAME
#   keelson_proto(NAME PROTOS a.proto ... [GRPC] DEPS ...) -> target keelson_NAME (generated code)
#   keelson_test(NAME SRCS a_test.cc ... DEPS ... [LABELS unit] [TIMEOUT 120] [NICE])
#   keelson_executable(NAME SRCS ... DEPS ... [TEST])
#   keelson_live_test(NAME COMMAND ... [TIMEOUT 300] [ENVIRONMENT A=B...])  a script that brings what it needs
#
# Tests labelled root share the machine's network, mounts and cgroups, and one of them, or of e2e, looks at what the
# others leave: they have it one after another (RESOURCE_LOCK keelson_host), beside those in the emulated machine
# (keelson_guest_1 and 2) and those that need nothing.
#
# TEST: only tests use it, and not where speed counts: compiled as they are.
# A DEPS entry is first looked up as keelson_ENTRY, then taken as it is (absl::..., Boost, ...).

add_library(keelson_flags INTERFACE)
target_compile_options(keelson_flags INTERFACE
  -Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-unused-parameter
  $<$<CXX_COMPILER_ID:GNU>:-fcoroutines -Wno-mismatched-new-delete -Wno-maybe-uninitialized -Wno-dangling-pointer>
  # libstdc++ 12 uses what it deprecates. Debian's libraries were built by g++ 12, whose names for constrained
  # constructors (absl::Cord has some) are those of clang up to 17.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations -fclang-abi-compat=17>
  # g++ 12 sees overflows in its own std::string once it inlines.
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<CONFIG:Release>>:-Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict>)
target_include_directories(keelson_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_definitions(keelson_flags INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_ARRAY KEELSON_VERSION="${PROJECT_VERSION}")
if(KEELSON_SANITIZE)
  add_compile_options(-fsanitize=${KEELSON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${KEELSON_SANITIZE})
endif()
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()
add_compile_options(-ffunction-sections -fdata-sections)
add_link_options(-Wl,--gc-sections)
# -g1 keeps line tables for backtraces and a third of the object size.
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# Test code is not worth optimizing: half of a cold build's time. A precompiled header belongs to one -O level, so
# tests have theirs, with googletest in it.
set(KEELSON_TEST_OPTIONS $<$<CONFIG:Release>:-O0>)
# As GTest::gtest defines it, also for what does not link it: they share the header.
set(KEELSON_GTEST_DEFINITION -DGTEST_HAS_PTHREAD=1)

# What ccache needs to know a precompiled header again: g++ leaves its inclusion in the preprocessed text, clang writes
# no times of files into it.
set(KEELSON_PCH_OPTIONS $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess> "$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")

# The target whose precompiled header the targets of this folder use: that of TOP/pch.h, where TOP is the top folder
# and has one, else of base/pch.h. Made when first asked for, since it needs the headers that TOP's protos become.
function(_keelson_pch_target var test)
  file(RELATIVE_PATH top ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  string(REGEX REPLACE "/.*" "" top ${top})
  if(NOT EXISTS ${CMAKE_SOURCE_DIR}/${top}/pch.h)
    set(top base)
  endif()
  set(target keelson_pch_${top})
  set(headers ${CMAKE_SOURCE_DIR}/${top}/pch.h)
  set(options ${KEELSON_PCH_OPTIONS})
  if(test)
    string(APPEND target _test)
    list(APPEND headers <gtest/gtest.h> <gmock/gmock.h>)
    list(APPEND options ${KEELSON_TEST_OPTIONS} ${KEELSON_GTEST_DEFINITION})
  endif()
  set(${var} ${target} PARENT_SCOPE)
  if(TARGET ${target})
    return()
  endif()
  file(WRITE ${CMAKE_BINARY_DIR}/pch_anchor.cc "")
  add_library(${target} OBJECT ${CMAKE_BINARY_DIR}/pch_anchor.cc)
  target_link_libraries(${target} PUBLIC keelson_flags protobuf::libprotobuf absl::status absl::statusor absl::strings absl::time)
  foreach(proto ${KEELSON_PCH_PROTOS_${top}})
    add_dependencies(${target} keelson_${proto})
  endforeach()
  target_precompile_headers(${target} PRIVATE ${headers})
  target_compile_options(${target} PRIVATE ${options})
endfunction()
set(KEELSON_PCH_PROTOS_cri cri_proto)
set(KEELSON_PCH_PROTOS_kubelet api_proto cri_proto)
set(KEELSON_PCH_PROTOS_master api_proto)

# With KEELSON_UNITY (the release preset) some files of a target are compiled as one: what they include is read once for
# all of them, which takes two fifths off a build from nothing. So names in the anonymous namespaces of a target's files
# must differ. The other presets compile each file alone, and find an include that is missing.
option(KEELSON_UNITY "Compile several files of a target as one" OFF)
function(_keelson_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${KEELSON_UNITY} UNITY_BUILD_BATCH_SIZE 8)
endfunction()

function(_keelson_deps target)
  foreach(dep ${ARGN})
    if(TARGET keelson_${dep} OR NOT dep MATCHES "::|^-|^[A-Z/]")
      if(TARGET ${dep} AND NOT TARGET keelson_${dep})
        target_link_libraries(${target} PUBLIC ${dep})
      else()
        target_link_libraries(${target} PUBLIC keelson_${dep})
      endif()
    else()
      target_link_libraries(${target} PUBLIC ${dep})
    endif()
  endforeach()
endfunction()

function(_keelson_common target)
  target_link_libraries(${target} PUBLIC keelson_flags protobuf::libprotobuf
    absl::status absl::statusor absl::strings absl::time absl::flat_hash_map absl::flat_hash_set
    absl::any_invocable Threads::Threads)
  if(A_TEST)
    target_compile_options(${target} PRIVATE ${KEELSON_TEST_OPTIONS} ${KEELSON_GTEST_DEFINITION})
  endif()
  _keelson_unity(${target})
  if(KEELSON_PCH)
    _keelson_pch_target(pch "${A_TEST}")
    target_precompile_headers(${target} REUSE_FROM ${pch})
    target_compile_options(${target} PRIVATE ${KEELSON_PCH_OPTIONS})
  endif()
endfunction()

# With KEELSON_LENIENT in the environment, sources listed but not yet written are left out, so that one
# half-written folder does not stop work in the others. Never set in CI.
function(_keelson_existing var)
  set(found)
  foreach(src ${ARGN})
    get_filename_component(abs ${src} ABSOLUTE)
    if(EXISTS ${abs} OR NOT DEFINED ENV{KEELSON_LENIENT})
      list(APPEND found ${src})
    else()
      message(STATUS "${abs}: listed, not there yet")
    endif()
  endforeach()
  if(NOT found)
    file(WRITE ${CMAKE_BINARY_DIR}/empty.cc "")
    list(APPEND found ${CMAKE_BINARY_DIR}/empty.cc)
  endif()
  set(${var} ${found} PARENT_SCOPE)
endfunction()

function(keelson_library name)
  cmake_parse_arguments(A "TEST" "" "SRCS;DEPS" ${ARGN})
  _keelson_existing(A_SRCS ${A_SRCS})
  add_library(keelson_${name} STATIC ${A_SRCS})
  _keelson_common(keelson_${name})
  _keelson_deps(keelson_${name} ${A_DEPS})
endfunction()

function(keelson_executable name)
  cmake_parse_arguments(A "TEST" "OUTPUT" "SRCS;DEPS" ${ARGN})
  _keelson_existing(A_SRCS ${A_SRCS})
  add_executable(${name} ${A_SRCS})
  _keelson_common(${name})
  _keelson_deps(${name} ${A_DEPS})
endfunction()

# Generated code is compiled for size, without warnings and without the precompiled header,
# so that its objects come out of ccache whatever else changed.
function(keelson_proto name)
  cmake_parse_arguments(A "GRPC" "" "PROTOS;DEPS" ${ARGN})
  set(gen)
  foreach(proto ${A_PROTOS})
    get_filename_component(abs ${proto} ABSOLUTE)
    file(RELATIVE_PATH rel ${CMAKE_SOURCE_DIR} ${abs})
    string(REGEX REPLACE "\\.proto$" "" stem ${rel})
    set(out ${CMAKE_BINARY_DIR}/${stem}.pb.cc ${CMAKE_BINARY_DIR}/${stem}.pb.h)
    set(args --cpp_out=${CMAKE_BINARY_DIR})
    if(A_GRPC)
      list(APPEND out ${CMAKE_BINARY_DIR}/${stem}.grpc.pb.cc ${CMAKE_BINARY_DIR}/${stem}.grpc.pb.h)
      list(APPEND args --grpc_out=${CMAKE_BINARY_DIR} --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin)
    endif()
    add_custom_command(OUTPUT ${out}
      COMMAND protobuf::protoc -I${CMAKE_SOURCE_DIR} ${args} ${rel}
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      DEPENDS ${abs} COMMENT "protoc ${rel}" VERBATIM)
    list(APPEND gen ${out})
  endforeach()
  add_library(keelson_${name} STATIC ${gen})
  target_include_directories(keelson_${name} PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_link_libraries(keelson_${name} PUBLIC protobuf::libprotobuf)
  if(A_GRPC)
    # By name: the imported target adds -pthread, and with it _REENTRANT, which the precompiled header lacks.
    target_link_libraries(keelson_${name} PUBLIC grpc++ grpc gpr)
  endif()
  target_compile_options(keelson_${name} PRIVATE -w $<$<CONFIG:Release>:-Os>)
  # In every tree: what is generated misses no include.
  set_target_properties(keelson_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  # The generated files' own static names, after their headers, which have members of these names.
  set_target_properties(keelson_${name} PROPERTIES UNITY_BUILD_UNIQUE_ID KEELSON_UNITY_ID
    UNITY_BUILD_CODE_BEFORE_INCLUDE "#include <google/protobuf/generated_message_reflection.h>
#define KEELSON_CONCAT2(a, b) a##b
#define KEELSON_CONCAT(a, b) KEELSON_CONCAT2(a, b)
#define schemas KEELSON_CONCAT(schemas_, KEELSON_UNITY_ID)
#define file_default_instances KEELSON_CONCAT(file_default_instances_, KEELSON_UNITY_ID)"
    UNITY_BUILD_CODE_AFTER_INCLUDE "#undef schemas
#undef file_default_instances")
  _keelson_deps(keelson_${name} ${A_DEPS})
endfunction()

# What takes a processor for minutes and waits for nobody leaves it to the others when they want it.
set(KEELSON_NICE nice -n 10)

function(keelson_test name)
  cmake_parse_arguments(A "NICE" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  _keelson_existing(A_SRCS ${A_SRCS})
  add_executable(${name} ${A_SRCS})
  set(A_TEST ON)
  _keelson_common(${name})
  _keelson_deps(${name} ${A_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  if(NOT A_LABELS)
    set(A_LABELS unit)
  endif()
  set(nice)
  if(A_NICE)
    set(nice ${KEELSON_NICE})
  endif()
  add_test(NAME ${name} COMMAND ${nice} $<TARGET_FILE:${name}> WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
  if("root" IN_LIST A_LABELS)
    set_tests_properties(${name} PROPERTIES RESOURCE_LOCK keelson_host)
  endif()
endfunction()

function(keelson_live_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "COMMAND;ENVIRONMENT" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${A_COMMAND})
  set_tests_properties(${name} PROPERTIES LABELS root TIMEOUT ${A_TIMEOUT} SKIP_RETURN_CODE 77 RESOURCE_LOCK keelson_host
    ENVIRONMENT "${A_ENVIRONMENT}")
endfunction()
