# Tests that take longer than ./test may; ./test --long [NAME] runs them.
#
# efio_long_test(PROGRAM [FILTER [NAME]]): the cases of PROGRAM that match the GoogleTest filter, with EFIO_LONG=1
# (efio::test::is_long_run() of support/privilege.h), as the test "NAME.long"; NAME is PROGRAM unless given.
function(efio_long_test program)
  set(filter "*")
  set(name ${program})
  if(ARGC GREATER 1)
    set(filter ${ARGV1})
  endif()
  if(ARGC GREATER 2)
    set(name ${ARGV2})
  endif()
  add_test(NAME ${name}.long COMMAND ${program} --gtest_filter=${filter})
  set_tests_properties(${name}.long PROPERTIES
    LABELS long ENVIRONMENT EFIO_LONG=1 SKIP_RETURN_CODE 77 RUN_SERIAL ON TIMEOUT 14400)
endfunction()

# efio_long_script(NAME): the script NAME (netns/mbdg_hosts) with EFIO_LONG=1, as the test "netns.mbdg_hosts.long".
function(efio_long_script script)
  string(REPLACE "/" "." name ${script})
  add_test(NAME ${name}.long COMMAND ${EFIO_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/${script}.py)
  set_tests_properties(${name}.long PROPERTIES LABELS long ENVIRONMENT "${script_environment};EFIO_LONG=1"
    SKIP_RETURN_CODE 77 RUN_SERIAL ON TIMEOUT 3600)
endfunction()

efio_long_test(engine_contract_test *.ReopensWithoutALeak:*.TwoOpeningsInTwoThreadsCountExactly)
efio_long_test(engine_contract_netns_test *.ReopensWithoutALeak:*.TwoOpeningsInTwoThreadsCountExactly)
efio_long_test(engine_contract_netns_test xdp_*-*.ReopensWithoutALeak:*.TwoOpeningsInTwoThreadsCountExactly xdp_contract)
efio_long_test(xdp_netns_test *.ASlowReceiverUnderFullLoad* xdp_slow_receiver)
efio_long_test(io_gen_rate_test Pacer.DoesNotDrift)
efio_long_test(io_gen_rfc2544_test Rfc2544.FindsTheRateOfADevice)
efio_long_test(queue_model_test)
efio_long_test(queue_stress_test)
efio_long_test(mbdg_worker_test)
efio_long_script(netns/io_gen_peers)
efio_long_script(netns/mbdg_reload)
efio_long_script(netns/mbdg_hosts)
efio_long_script(netns/mbdg_frames)
efio_long_script(netns/efnet_gateway)
