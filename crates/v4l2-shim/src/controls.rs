//! The requests about the settings of a camera.

use std::mem::zeroed;

use v4l2_sys_mit as v4l2;

use crate::camera::{Answer, Camera, fill};
use crate::scenario::Scenario;

#[expect(non_snake_case, reason = "the kernel's names of the requests")]
impl Camera {
    pub(crate) fn QUERY_EXT_CTRL(
        &mut self,
        scenario: &Scenario,
        found: &mut v4l2::v4l2_query_ext_ctrl,
    ) -> Answer {
        let after = found.id & 0x0FFF_FFFF;
        let control = scenario.controls.iter().find(|control| control.id > after).ok_or(libc::EINVAL)?;
        // SAFETY: numbers alone.
        *found = unsafe { zeroed() };
        (found.id, found.type_, found.flags) = (control.id, control.kind, control.flags);
        (found.minimum, found.maximum, found.step) = (control.min, control.max, control.step);
        for (to, from) in found.name.iter_mut().zip(control.name.bytes().take(31)) {
            *to = from as std::ffi::c_char;
        }
        Ok(())
    }

    pub(crate) fn QUERYCTRL(&mut self, scenario: &Scenario, found: &mut v4l2::v4l2_queryctrl) -> Answer {
        let after = found.id & 0x0FFF_FFFF;
        let control = scenario.controls.iter().find(|control| control.id > after).ok_or(libc::EINVAL)?;
        (found.id, found.type_, found.flags) = (control.id, control.kind, control.flags);
        (found.minimum, found.maximum) = (control.min as i32, control.max as i32);
        found.step = control.step as i32;
        fill(&mut found.name, &control.name);
        Ok(())
    }

    pub(crate) fn QUERYMENU(&mut self, scenario: &Scenario, found: &mut v4l2::v4l2_querymenu) -> Answer {
        let (id, index) = (found.id, found.index);
        let control = scenario.controls.iter().find(|control| control.id == id).ok_or(libc::EINVAL)?;
        let (_, text) = control.entries.iter().find(|(entry, _)| *entry == index).ok_or(libc::EINVAL)?;
        let mut name = [0; 32];
        fill(&mut name, text);
        found.__bindgen_anon_1 = match text.parse() {
            Ok(value) if control.kind == 9 => v4l2::v4l2_querymenu__bindgen_ty_1 { value },
            _ => v4l2::v4l2_querymenu__bindgen_ty_1 { name },
        };
        Ok(())
    }

    pub(crate) fn S_CTRL(&mut self, scenario: &Scenario, asked: &mut v4l2::v4l2_control) -> Answer {
        let (id, value) = (asked.id, asked.value);
        let control = scenario.controls.iter().find(|control| control.id == id).ok_or(libc::EINVAL)?;
        if !(control.min..=control.max).contains(&i64::from(value)) {
            return Err(libc::ERANGE);
        }
        for [dependent, other, needed] in &scenario.needs {
            let found = self.values.get(&(*other as u32)).copied().map(i64::from);
            if *dependent == i64::from(id) && found != Some(*needed) {
                return Err(libc::EACCES);
            }
        }
        self.log(&format!("S_CTRL {} {value}", control.name));
        self.values.insert(id, value);
        Ok(())
    }
}
