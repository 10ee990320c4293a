# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_captiond_global_optspecs
    string join \n log= log-format= h/help V/version
end

function __fish_captiond_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_captiond_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_captiond_using_subcommand
    set -l cmd (__fish_captiond_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c captiond -n "__fish_captiond_needs_command" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_needs_command" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_needs_command" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_needs_command" -s V -l version -d 'Print version'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "caption" -d 'Describe photos in one sentence each'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "ask" -d 'Answer a question about a photo'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "label" -d 'Tell which of some labels fits a photo best'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "run" -d 'Run the daemon'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "check" -d 'Check a configuration and its bundle, and print what the daemon would run with'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "doctor" -d 'Try everything that the daemon needs, and say what is wrong and what to do about it'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "config" -d 'Tell what a configuration may hold'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "demo" -d 'Run the daemon on bundled photos with a broker of its own: nothing else is needed'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "cameras" -d 'List the V4L2 cameras of this machine, with what they offer and lines for a configuration'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "mqtt" -d 'Look after the broker'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "bundle" -d 'Look into bundles'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "bench" -d 'Measure every stage of a bundle on this machine'
complete -c captiond -n "__fish_captiond_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l bundle -d 'The folder of the bundle [default: $CAPTIOND_BUNDLE, then the usual places]' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l threads -d 'Threads of one inference [default: the cores of the machine, at most 4]' -r
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l engine -d 'What runs the graphs: `tract`, or `ort` where this build has it' -r
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l device -d 'Where: `cpu`, and with ort `cuda:N`, `tensorrt:N` or `cuda-or-cpu`' -r
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand caption" -l json -d 'Print one JSON object a line instead of text'
complete -c captiond -n "__fish_captiond_using_subcommand caption" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l choices -d 'Answers to choose from, separated by commas' -r
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l bundle -d 'The folder of the bundle [default: $CAPTIOND_BUNDLE, then the usual places]' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l threads -d 'Threads of one inference [default: the cores of the machine, at most 4]' -r
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l engine -d 'What runs the graphs: `tract`, or `ort` where this build has it' -r
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l device -d 'Where: `cpu`, and with ort `cuda:N`, `tensorrt:N` or `cuda-or-cpu`' -r
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand ask" -l json
complete -c captiond -n "__fish_captiond_using_subcommand ask" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand label" -l labels -d 'Labels, separated by commas' -r
complete -c captiond -n "__fish_captiond_using_subcommand label" -l bundle -d 'The folder of the bundle [default: $CAPTIOND_BUNDLE, then the usual places]' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand label" -l threads -d 'Threads of one inference [default: the cores of the machine, at most 4]' -r
complete -c captiond -n "__fish_captiond_using_subcommand label" -l engine -d 'What runs the graphs: `tract`, or `ort` where this build has it' -r
complete -c captiond -n "__fish_captiond_using_subcommand label" -l device -d 'Where: `cpu`, and with ort `cuda:N`, `tensorrt:N` or `cuda-or-cpu`' -r
complete -c captiond -n "__fish_captiond_using_subcommand label" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand label" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand label" -l json
complete -c captiond -n "__fish_captiond_using_subcommand label" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand run" -l config -d 'The configuration; files of `conf.d` beside it are read as well' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand run" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand run" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand run" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand check" -l config -d 'The configuration; files of `conf.d` beside it are read as well' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand check" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand check" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand check" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand doctor" -l config -d 'The configuration; files of `conf.d` beside it are read as well' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand doctor" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand doctor" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand doctor" -l json -d 'Print one JSON object a line instead of text'
complete -c captiond -n "__fish_captiond_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand config; and not __fish_seen_subcommand_from reference schema help" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand config; and not __fish_seen_subcommand_from reference schema help" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand config; and not __fish_seen_subcommand_from reference schema help" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand config; and not __fish_seen_subcommand_from reference schema help" -f -a "reference" -d 'Print a commented configuration with every key and its default'
complete -c captiond -n "__fish_captiond_using_subcommand config; and not __fish_seen_subcommand_from reference schema help" -f -a "schema" -d 'Print the JSON Schema (2020-12) of the configuration'
complete -c captiond -n "__fish_captiond_using_subcommand config; and not __fish_seen_subcommand_from reference schema help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from reference" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from reference" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from reference" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from schema" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from schema" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "reference" -d 'Print a commented configuration with every key and its default'
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "schema" -d 'Print the JSON Schema (2020-12) of the configuration'
complete -c captiond -n "__fish_captiond_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l count -d 'End after so many captions instead of at Ctrl-C' -r
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l bundle -d 'The folder of the bundle [default: $CAPTIOND_BUNDLE, then the usual places]' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l threads -d 'Threads of one inference [default: the cores of the machine, at most 4]' -r
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l engine -d 'What runs the graphs: `tract`, or `ort` where this build has it' -r
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l device -d 'Where: `cpu`, and with ort `cuda:N`, `tensorrt:N` or `cuda-or-cpu`' -r
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand demo" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand demo" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand cameras" -l dev -d 'Where the device nodes are' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand cameras" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand cameras" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand cameras" -l json -d 'Print one JSON object a line instead of text'
complete -c captiond -n "__fish_captiond_using_subcommand cameras" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and not __fish_seen_subcommand_from purge help" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and not __fish_seen_subcommand_from purge help" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and not __fish_seen_subcommand_from purge help" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and not __fish_seen_subcommand_from purge help" -f -a "purge" -d 'Take everything away that the broker keeps of this daemon, which must not run'
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and not __fish_seen_subcommand_from purge help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and __fish_seen_subcommand_from purge" -l config -d 'The configuration; files of `conf.d` beside it are read as well' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and __fish_seen_subcommand_from purge" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and __fish_seen_subcommand_from purge" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and __fish_seen_subcommand_from purge" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and __fish_seen_subcommand_from help" -f -a "purge" -d 'Take everything away that the broker keeps of this daemon, which must not run'
complete -c captiond -n "__fish_captiond_using_subcommand mqtt; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -f -a "import" -d 'Make an encoder bundle of a CLIP model that was exported to ONNX'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -f -a "pull" -d 'Fetch a model by its name or a bundle by its address, verify it, and install it'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -f -a "info" -d 'Verify a bundle and print its licence, origin, and the size and numeric types of its graphs'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and not __fish_seen_subcommand_from import pull info help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l out -d 'The folder of the bundle' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l name -d 'Name of the bundle [default: that of the folder]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l license -d 'Terms of the weights [default: those that the export\'s README.md names]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l variant -d 'Which of several forms of the graphs to take [default: the most exact one]' -r -f -a "fp32\t''
fp16\t''
quantized\t'Dynamically quantized to int8'
q4\t'Four bits in blocks'"
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l logit-scale -d 'What cosines are multiplied by before a softmax [default: as the export says, else 100]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l out -d 'The folder of the result [default: the name, in the current folder]' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l registry -d 'A list of models in the place of the one that ships' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l mirror -d 'An address or a folder that has NAME/PATH for every file' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l patience -d 'How long a server may send next to nothing' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -l offline -d 'Take what was fetched before, or a mirror\'s folder; never the network'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from info" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from info" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from info" -l json -d 'Print one JSON object instead of text'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from info" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "import" -d 'Make an encoder bundle of a CLIP model that was exported to ONNX'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Fetch a model by its name or a bundle by its address, verify it, and install it'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "info" -d 'Verify a bundle and print its licence, origin, and the size and numeric types of its graphs'
complete -c captiond -n "__fish_captiond_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l runs -d 'Measured runs over all photos' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l warmup -d 'Runs over all photos before that' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l bundle -d 'The folder of the bundle [default: $CAPTIOND_BUNDLE, then the usual places]' -r -F
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l threads -d 'Threads of one inference [default: the cores of the machine, at most 4]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l engine -d 'What runs the graphs: `tract`, or `ort` where this build has it' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l device -d 'Where: `cpu`, and with ort `cuda:N`, `tensorrt:N` or `cuda-or-cpu`' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l log -d 'What to log to stderr, such as `debug` or `captiond::mqtt=debug` [default: $CAPTIOND_LOG]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l log-format -d 'How to log: `text` or `json`, one object a line [default: $CAPTIOND_LOG_FORMAT, then text]' -r
complete -c captiond -n "__fish_captiond_using_subcommand bench" -l json -d 'Print one JSON object instead of a table'
complete -c captiond -n "__fish_captiond_using_subcommand bench" -s h -l help -d 'Print help'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "caption" -d 'Describe photos in one sentence each'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "ask" -d 'Answer a question about a photo'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "label" -d 'Tell which of some labels fits a photo best'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "run" -d 'Run the daemon'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "check" -d 'Check a configuration and its bundle, and print what the daemon would run with'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "doctor" -d 'Try everything that the daemon needs, and say what is wrong and what to do about it'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "config" -d 'Tell what a configuration may hold'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "demo" -d 'Run the daemon on bundled photos with a broker of its own: nothing else is needed'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "cameras" -d 'List the V4L2 cameras of this machine, with what they offer and lines for a configuration'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "mqtt" -d 'Look after the broker'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "bundle" -d 'Look into bundles'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "bench" -d 'Measure every stage of a bundle on this machine'
complete -c captiond -n "__fish_captiond_using_subcommand help; and not __fish_seen_subcommand_from caption ask label run check doctor config demo cameras mqtt bundle bench help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c captiond -n "__fish_captiond_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "reference" -d 'Print a commented configuration with every key and its default'
complete -c captiond -n "__fish_captiond_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "schema" -d 'Print the JSON Schema (2020-12) of the configuration'
complete -c captiond -n "__fish_captiond_using_subcommand help; and __fish_seen_subcommand_from mqtt" -f -a "purge" -d 'Take everything away that the broker keeps of this daemon, which must not run'
complete -c captiond -n "__fish_captiond_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "import" -d 'Make an encoder bundle of a CLIP model that was exported to ONNX'
complete -c captiond -n "__fish_captiond_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "pull" -d 'Fetch a model by its name or a bundle by its address, verify it, and install it'
complete -c captiond -n "__fish_captiond_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "info" -d 'Verify a bundle and print its licence, origin, and the size and numeric types of its graphs'
