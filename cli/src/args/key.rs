//! The options of `key`.

use clap::Args;

const KEY_EXAMPLES: &str = "\
It prints 32 random bytes in hexadecimal: with --id a line for --pipeline-keys, without a line for --hmac-keys.
Both sides need the same file, which nobody else may read.

To change keys while servers and clients run:
  1. put the new line below the old ones in the files of both sides, and send both SIGHUP
  2. move it to the top, and send SIGHUP again
  3. remove the old line when nothing that was sent with it is on its way, and send SIGHUP

Examples:
  (umask 077; netsys key --id 1 > keys)
  netsys key --id 2 >> keys && pkill -HUP -x netsys
  (umask 077; netsys key > hmac-keys)
  netsys serve --pipeline lz4,aes-256-gcm --pipeline-keys keys";

/// Makes a key for encryption or authentication
#[derive(Args, Debug)]
#[command(after_help = KEY_EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct KeyArgs {
    /// The number of the key, 0 to 4294967295: one that was never used for another
    #[arg(long, value_name = "N")]
    pub(crate) id: Option<u32>,
}
