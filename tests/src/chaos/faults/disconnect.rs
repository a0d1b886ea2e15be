//! A container whose only link is taken away: unlike silence, it notices.

use super::Nemesis;
use super::machine::Strike;

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let mut networks = Vec::new();
    for id in &strike.nodes {
        networks.push((*id, nemesis.fleet.disconnect(*id)?));
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for (id, network) in networks {
        nemesis.fleet.connect(id, &network)?;
    }
    Ok(())
}
