# A stand-in for an ffmpeg on a machine with NVIDIA cards: what would go to a card, the real ffmpeg does
# on the processor. How the cards are is written in the folder FOLDER: `card-N` says ok, broken, crash,
# hang, or no-encoder. Each run is noted in `runs`: the card, and what of it was used.
card= encode= decode=
n=$#
while [ "$n" -gt 0 ]; do
    word=$1
    shift
    n=$((n - 1))
    case "$word" in
    -hwaccel_device) card=$1 decode=yes; shift; n=$((n - 1)); continue ;;
    -gpu) card=$1; shift; n=$((n - 1)); continue ;;
    -hwaccel | -hwaccel_output_format | -extra_hw_frames | -forced-idr) shift; n=$((n - 1)); continue ;;
    h264_nvenc) encode=yes word=libx264 ;;
    p4) word=ultrafast ;;
    *scale_cuda*) word=$(printf %s "$word" |
        sed 's/scale_cuda=\([^[]*\):format=yuv420p/scale=\1,format=yuv420p/g; s/,hwdownload,format=yuv420p//g') ;;
    esac
    set -- "$@" "$word"
done
if [ -n "$card" ]; then
    state=$(cat "FOLDER/card-$card" 2>/dev/null)
    echo "$card decode=$decode encode=$encode $state" >>FOLDER/runs
    case "$state" in
    broken) echo '[fatal] the card is broken' >&2; exit 1 ;;
    crash) kill -SEGV $$ ;;
    hang) exec sleep 1000 ;;
    no-encoder) if [ -n "$encode" ]; then echo '[fatal] No capable devices found' >&2; exit 1; fi ;;
    esac
fi
exec ffmpeg "$@"
