# Fails if a unit compiled with AVX2 or AVX-512 emits a weak symbol (an inline function or a std:: template that was not inlined): the
# linker keeps one copy of such a symbol for the whole library, and if that is the AVX one, older processors stop at it.
# Called with -DNM=nm -DLIST=a file with one object a line.
file(STRINGS ${LIST} objects)
foreach(object IN LISTS objects)
  execute_process(COMMAND ${NM} -C ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  endif()
  string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]*" weak "${symbols}")
  # A pointer, no code: what unwinds the stack finds the language's own routine by it.
  list(FILTER weak EXCLUDE REGEX "DW\\.ref\\.__gxx_personality_v0$")
  if(weak)
    string(REPLACE ";" "\n  " weak "${weak}")
    message(FATAL_ERROR "${object} was compiled for a newer processor and defines weak symbols:\n  ${weak}")
  endif()
endforeach()
