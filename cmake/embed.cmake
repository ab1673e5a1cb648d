# keelson_embed(NAME FILE path FUNCTION ns::Name) -> target keelson_NAME, which defines
#   std::string_view ns::Name();   the bytes of the file
# The file may be built. The assembler puts it in: no tool, no copy, the same under any compiler flag.
function(keelson_embed name)
  cmake_parse_arguments(A "" "FILE;FUNCTION" "" ${ARGN})
  string(REGEX MATCH "^(.*)::([^:]+)$" matched ${A_FUNCTION})
  set(namespace ${CMAKE_MATCH_1})
  set(function ${CMAKE_MATCH_2})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embed_${name}.cc)
  set(text "#include <string_view>
__asm__(\".section .rodata.keelson_embed_${name},\\\"a\\\",@progbits\\n\"
        \".balign 16\\n\"
        \".globl keelson_embed_${name}\\nkeelson_embed_${name}:\\n\"
        \".incbin \\\"${A_FILE}\\\"\\n\"
        \".globl keelson_embed_${name}_end\\nkeelson_embed_${name}_end:\\n\"
        \".previous\\n\");
extern \"C\" const char keelson_embed_${name}[], keelson_embed_${name}_end[];
namespace ${namespace} {
std::string_view ${function}() {
  return std::string_view(keelson_embed_${name}, static_cast<std::size_t>(keelson_embed_${name}_end - keelson_embed_${name}));
}
}  // namespace ${namespace}
")
  file(GENERATE OUTPUT ${source} CONTENT "${text}")
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${A_FILE})
  add_library(keelson_${name} STATIC ${source})
  target_link_libraries(keelson_${name} PRIVATE keelson_flags)
endfunction()
